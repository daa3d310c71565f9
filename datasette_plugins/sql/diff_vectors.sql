-- The spaces that both runs read, and whose vectors changed in between
select a.name as space, a.generation as generation_a, b.generation as generation_b
from run_inputs a
join run_inputs b on b.run_id = :run_b and b.space_id = a.space_id
where a.run_id = :run_a and a.space_id is not null
  and (a.generation is not b.generation or a.generation_token is not b.generation_token)
order by a.name
