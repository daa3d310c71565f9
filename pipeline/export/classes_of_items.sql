-- The classes of some items' ground truth and, with a run, of what it saw in them
select distinct
    0 as is_seen,
    a.class_id,
    coalesce(nullif(a.class_name, ''), c.name) as name
from annotations a
join items i on i.id = a.item_id
left join classes c on c.collection = i.collection and c.class_id = a.class_id
where a.item_id in (select value from json_each(:items))
union all
select distinct 1, class_id, class_name
from predictions
where run_id = :run and item_id in (select value from json_each(:items))
