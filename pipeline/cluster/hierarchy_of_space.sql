select
    level, id, cluster, parent, probability, outlier_score, core_distance, birth_lambda, max_lambda
from cluster_hierarchy(:space, :levels, :downsample, :within, :seed_rules, :neighbors)
order by level, id
