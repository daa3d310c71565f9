-- A clustering and a map of one space, the newest of those not given
select c.run_id as clustering, m.run_id as map
from current_runs c
join current_runs m on m.kind = 'project' and m.space = c.space
where c.kind = 'cluster' and :clustering is null and :map is null
union all
select :clustering, m.run_id
from current_runs m
join run_inputs i on i.run_id = :clustering and i.kind = 'space' and i.name = m.space
where m.kind = 'project' and :map is null
union all
select c.run_id, :map
from current_runs c
join run_inputs i on i.run_id = :map and i.kind = 'space' and i.name = c.space
where c.kind = 'cluster' and :clustering is null
union all
select :clustering, :map where :clustering is not null and :map is not null
order by clustering desc, map desc
limit 1
