-- The newest finished graph of these very items of a space, as it is at this generation, with at least
-- :width neighbours of each of the :n, and all its rows.
select r.id
from run_inputs i
join runs r on r.id = i.run_id and r.kind = 'neighbors' and r.status = 'finished'
where i.kind = 'space' and i.space_id = :space_id
  and i.generation = :generation and i.generation_token = :generation_token
  and r.parameters_json ->> 'method' = 'exact'
  and r.parameters_json ->> 'within_sha256' = :within_sha256
  and min(r.parameters_json ->> 'k', :n - 1) >= :width
  and (select count(*) from neighbors n where n.run_id = r.id)
      = :n * min(r.parameters_json ->> 'k', :n - 1)
order by r.id desc
limit 1
