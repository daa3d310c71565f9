-- The levels of two clusterings
select distinct run_id, level
from clusters
where run_id in (cast(:run_a as integer), cast(:run_b as integer))
order by run_id, level
