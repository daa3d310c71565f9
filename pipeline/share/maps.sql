-- The maps of the file, the newest first
select
    r.id as run_id,
    (select max(i.name) from run_inputs i where i.run_id = r.id and i.kind = 'space') as space,
    r.parameters_json ->> '$.method' as method,
    r.finished_at,
    (select count(*) from projection_points p where p.run_id = r.id) as points
from runs r
where exists (select 1 from projection_points p where p.run_id = r.id)
order by r.id desc
