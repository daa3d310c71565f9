-- The stored loss distances of each component, and how many pairs have none
select 'distance_mean/' || component as name, avg(distance) as value, null as step
from loss_distances where run_id = :run group by component
union all
select 'distance_min/' || component, min(distance), null
from loss_distances where run_id = :run group by component
union all
select 'distance_max/' || component, max(distance), null
from loss_distances where run_id = :run group by component
union all
select 'undefined/' || component, count(*) filter (where distance is null), null
from loss_distances where run_id = :run group by component
order by name
