-- A run with the name of the space that it read.
select r.kind, r.status, r.parameters_json, r.started_at, r.result_sha256, s.name
from runs r
left join run_inputs i on i.run_id = r.id and i.kind = 'space'
left join spaces s on s.id = i.space_id
where r.id = :run
