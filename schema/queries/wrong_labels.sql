/* Labels that the nearest neighbours contradict, the surest errors first */
select e.id as item_id, e.given, e.suggested, e.confidence, e.is_error, e.distance, i.uri
from label_errors(:space, :label, cast(:k as integer)) e
join items i on i.id = e.id
order by e.confidence desc, e.distance, e.id
