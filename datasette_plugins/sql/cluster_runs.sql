-- Clusterings, the newest first
select
    r.id as run_id,
    coalesce(
        (select max(i.name) from run_inputs i where i.run_id = r.id and i.kind = 'space'),
        json_extract(r.parameters_json, '$.component') || ' losses of run '
        || json_extract(r.parameters_json, '$.loss_distance_run')
    ) as space,
    json_extract(r.parameters_json, '$.method') as method,
    json_extract(r.parameters_json, '$.min_cluster_size') as min_cluster_size,
    r.finished_at
from runs r
where exists (select 1 from memberships m where m.run_id = r.id)
order by r.id desc
limit :limit
