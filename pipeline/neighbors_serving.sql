-- The newest finished graph of a space's present vectors that has :k neighbours of each item. Whatever k
-- asks for, n - 1 are all that there are.
select max(r.id)
from spaces s
join run_inputs i
    on i.space_id = s.id and i.kind = 'space'
    and i.generation = s.generation and i.generation_token = s.generation_token
join runs r on r.id = i.run_id and r.kind = 'neighbors' and r.status = 'finished'
where s.name = :space and r.parameters_json ->> 'k' >= min(:k, i.rows - 1)
