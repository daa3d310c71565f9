-- Which rows a run wrote; more than a million of a table are not counted to the end
select t.name as "table", t.by_column as "column", t.n
from (
    select 'items' as name, 'run_id' as by_column,
           (select count(*) from (select 1 from items where run_id = :run limit 1000001)) as n
    union all select 'annotations', 'run_id',
           (select count(*) from (select 1 from annotations where run_id = :run limit 1000001))
    union all select 'annotated_items', 'run_id',
           (select count(*) from (select 1 from annotated_items where run_id = :run limit 1000001))
    union all select 'spaces', 'run_id',
           (select count(*) from (select 1 from spaces where run_id = :run limit 1000001))
    union all select 'vectors', 'run_id',
           (select count(*) from (select 1 from vectors where run_id = :run limit 1000001))
    union all select 'predictions', 'run_id',
           (select count(*) from (select 1 from predictions where run_id = :run limit 1000001))
    union all select 'image_metrics', 'run_id',
           (select count(*) from (select 1 from image_metrics where run_id = :run limit 1000001))
    union all select 'losses', 'run_id',
           (select count(*) from (select 1 from losses where run_id = :run limit 1000001))
    union all select 'feature_maps', 'run_id',
           (select count(*) from (select 1 from feature_maps where run_id = :run limit 1000001))
    union all select 'loss_distances', 'run_id',
           (select count(*) from (select 1 from loss_distances where run_id = :run limit 1000001))
    union all select 'neighbors', 'run_id',
           (select count(*) from (select 1 from neighbors where run_id = :run limit 1000001))
    union all select 'vector_indexes', 'run_id',
           (select count(*) from (select 1 from vector_indexes where run_id = :run limit 1000001))
    union all select 'clusters', 'run_id',
           (select count(*) from (select 1 from clusters where run_id = :run limit 1000001))
    union all select 'memberships', 'run_id',
           (select count(*) from (select 1 from memberships where run_id = :run limit 1000001))
    union all select 'memberships', 'assigned_by_run_id',
           (select count(*) from (select 1 from memberships where assigned_by_run_id = :run limit 1000001))
    union all select 'cluster_labels', 'run_id',
           (select count(*) from (select 1 from cluster_labels where run_id = :run limit 1000001))
    union all select 'llm_responses', 'run_id',
           (select count(*) from (select 1 from llm_responses where run_id = :run limit 1000001))
    union all select 'projection_points', 'run_id',
           (select count(*) from (select 1 from projection_points where run_id = :run limit 1000001))
    union all select 'projection_points', 'placed_by_run_id',
           (select count(*) from (select 1 from projection_points where placed_by_run_id = :run limit 1000001))
    union all select 'projection_axes', 'run_id',
           (select count(*) from (select 1 from projection_axes where run_id = :run limit 1000001))
    union all select 'folds', 'run_id',
           (select count(*) from (select 1 from folds where run_id = :run limit 1000001))
    union all select 'cv_predictions', 'run_id',
           (select count(*) from (select 1 from cv_predictions where run_id = :run limit 1000001))
    union all select 'cv_neighbors', 'run_id',
           (select count(*) from (select 1 from cv_neighbors where run_id = :run limit 1000001))
    union all select 'cv_metrics', 'run_id',
           (select count(*) from (select 1 from cv_metrics where run_id = :run limit 1000001))
    union all select 'findings', 'run_id',
           (select count(*) from (select 1 from findings where run_id = :run limit 1000001))
) t
where t.n > 0
