select min_cluster_size, clusters, noise, noise_share, largest, largest_share, persistence, is_cliff
from cluster_sweep(
    :space, :sizes, :min_samples, :downsample, :within, :selection, :epsilon, :neighbors
)
