-- Stored graphs of whole spaces whose vectors have not changed since: run, space, k.
select r.id, s.name, r.parameters_json ->> 'k'
from runs r
join run_inputs i on i.run_id = r.id and i.kind = 'space'
join spaces s
    on s.id = i.space_id
    and s.generation = i.generation and s.generation_token = i.generation_token
where r.kind = 'neighbors' and r.status = 'finished'
    and r.parameters_json ->> 'method' = 'exact' and r.parameters_json ->> 'within' is null
    and i.rows > 1
    and exists (select 1 from neighbors n where n.run_id = r.id)
