select id, coalesce(cluster, -1), core_distance, birth_lambda, max_lambda
from hdbscan(:space, :min_cluster_size, :min_samples, 1, :within, :selection, :epsilon, 'exact')
order by id
