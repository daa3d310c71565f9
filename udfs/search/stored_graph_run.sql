-- The newest finished graph of a space's vectors as they are at this generation that has :k neighbours of
-- each item; of how many items, and how many neighbours. A run limited to some items is no graph of the
-- space. Whatever k asks for, n - 1 are all that there
-- are. A run whose rows were deleted, to save room, has none.
select r.id, i.rows as n, min(r.parameters_json ->> 'k', i.rows - 1) as k
from run_inputs i
join runs r on r.id = i.run_id and r.kind = 'neighbors' and r.status = 'finished'
where i.kind = 'space' and i.space_id = :space_id
    and i.generation = :generation and i.generation_token = :generation_token
    and r.parameters_json ->> 'method' = 'exact' and r.parameters_json ->> 'within' is null
    and r.parameters_json ->> 'k' >= min(:k, i.rows - 1)
    and exists (select 1 from neighbors n where n.run_id = r.id)
order by r.id desc
limit 1
