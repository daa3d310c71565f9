-- The images that changed between two detector runs by a metric, those that regressed most first
select d.id as item_id, d.change, d.value_a, d.value_b, d.difference, i.uri
from detector_diff(:run_a, :run_b, :metric, :tolerance) d
join items i on i.id = d.id
where d.change <> 'same'
order by iif(:better = 'lower', -d.difference, d.difference), d.id
