-- A run that looks for findings
select
    r.id as run_id, r.kind, r.status, r.finished_at,
    coalesce(
        (select max(i.name) from run_inputs i where i.run_id = r.id and i.kind = 'space'),
        json_extract(r.parameters_json, '$.space')
    ) as space,
    json_extract(r.parameters_json, '$.label') as label
from runs r
where r.id = :run
  and (r.kind in ('find', 'failures') or exists (select 1 from findings f where f.run_id = r.id))
