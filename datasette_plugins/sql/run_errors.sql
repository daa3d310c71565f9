-- What a run could not do, item by item or file by file
select e.stage, e.message, e.item_id, e.uri, i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 80) as text
from item_errors e
left join items i on i.id = e.item_id
where e.run_id = :run
order by e.id
limit :limit
