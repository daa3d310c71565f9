-- The newest maps
select
    r.id as run_id,
    (select max(i.name) from run_inputs i where i.run_id = r.id and i.kind = 'space') as space,
    json_extract(r.parameters_json, '$.method') as method,
    r.finished_at,
    (select count(*) from projection_points p where p.run_id = r.id) as points
from runs r
where exists (select 1 from projection_points p where p.run_id = r.id)
order by r.id desc
limit :limit
