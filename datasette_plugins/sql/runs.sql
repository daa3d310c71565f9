-- Runs, the newest first: what made the rows of this file
select
    r.id as run_id,
    r.kind,
    m.name as model,
    (select group_concat(i.name, ', ') from run_inputs i where i.run_id = r.id) as inputs,
    -- Some hold whole lists, such as a model's classes: the run itself shows all of them.
    (select group_concat(
        p.key || ' ' || iif(length(p.value) > 60, substr(p.value, 1, 60) || '...', ifnull(p.value, 'null')),
        ', '
     ) from json_each(r.parameters_json) p) as parameters,
    r.seed,
    r.device,
    r.status,
    r.error,
    (select group_concat(c.key || ' ' || ifnull(c.value, 'null'), ', ')
     from json_each(r.counts_json) c) as counts,
    r.started_at,
    r.duration_ms,
    exists (select 1 from projection_points p where p.run_id = r.id) as has_map,
    exists (select 1 from memberships c where c.run_id = r.id) as has_clusters
from runs r
left join models m on m.id = r.model_id
order by r.id desc
limit :limit
