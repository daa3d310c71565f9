-- Runs, the newest first: what made the rows of this file
select
    r.id as run_id,
    r.kind,
    m.name as model,
    (select group_concat(i.name, ', ') from run_inputs i where i.run_id = r.id) as inputs,
    -- Some hold whole lists, such as a model's classes, or hashes: the run itself shows all of them.
    (select group_concat(
        p.key || ' ' || iif(length(p.value) > 60, substr(p.value, 1, 60) || '...', p.value), ', '
     ) from json_each(r.parameters_json) p
     where p.value not in ('{}', '[]') and p.key not like '%sha256' and p.key not like 'generation%'
       and p.key <> 'space') as parameters,
    r.seed,
    r.device,
    json_extract(r.versions_json, '$.nearsql') as version,
    r.status,
    r.error,
    (select group_concat(
        c.key || ' ' || iif(c.type = 'real', round(c.value, 4), ifnull(c.value, 'null')), ', '
     ) from json_each(r.counts_json) c) as counts,
    r.started_at,
    r.duration_ms,
    exists (select 1 from projection_points p where p.run_id = r.id) as has_map,
    exists (select 1 from memberships c where c.run_id = r.id) as has_clusters,
    exists (select 1 from cv_metrics c where c.run_id = r.id) as has_evaluation,
    exists (select 1 from findings f where f.run_id = r.id) as has_findings
from runs r
left join models m on m.id = r.model_id
where ifnull(:kind, '') in ('', r.kind) and ifnull(:status, '') in ('', r.status)
order by r.id desc
limit :limit offset :offset
