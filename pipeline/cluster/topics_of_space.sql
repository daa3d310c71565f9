select level, id, cluster, parent_level, parent, probability, persistence
from topics(:space, :min_cluster_size, :min_samples, :downsample, :within, :n_neighbors, :noise_level,
            :random_state)
order by level, id
