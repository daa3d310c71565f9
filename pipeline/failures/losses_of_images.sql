-- The defined losses of images, each by the run that judged it: :images is a JSON array of [run, item].
select l.component, l.item_id, l.value
from json_each(:images) judged
join losses l on l.run_id = judged.value ->> 0 and l.item_id = judged.value ->> 1
where l.value is not null
order by l.component, l.value desc, l.item_id
