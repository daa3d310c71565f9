-- What each minimum cluster size would find in a space; sizes and within may be empty
select min_cluster_size, clusters, noise, noise_share, largest, largest_share, persistence, is_cliff
from cluster_sweep(
    :space,
    nullif(:sizes, ''),
    cast(:min_samples as integer),
    cast(:downsample as integer),
    nullif(:within, ''),
    :selection,
    cast(:epsilon as real)
)
