-- The images that changed between two detector runs by a metric, those that changed most first
select
    d.id, d.change, d.value_a, d.value_b, d.difference,
    i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text
from detector_diff(cast(:run_a as integer), cast(:run_b as integer), :metric) d
join items i on i.id = d.id
where d.change <> 'same' and :change in ('', d.change)
order by abs(d.difference) desc, d.id
limit :limit offset :offset
