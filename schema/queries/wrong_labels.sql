/* Labels that the nearest neighbours contradict, the surest errors first */
select e.id as item_id, e.given, e.suggested, e.confidence, e.score, e.is_error, i.uri
from label_errors(:space, :label, cast(:k as integer)) e
join items i on i.id = e.id
order by e.score desc, e.distance, e.id
