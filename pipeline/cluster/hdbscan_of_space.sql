select id, cluster, probability, outlier_score, core_distance, birth_lambda, max_lambda
from hdbscan(
    :space, :min_cluster_size, :min_samples, :downsample, :within, :selection, :epsilon, :neighbors
)
order by id
