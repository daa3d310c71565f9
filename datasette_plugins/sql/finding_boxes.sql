-- The boxes of objects and of predictions by their ids, as JSON arrays, cut off at the image's edges
select
    b.id, b.item_id, b.state, b.class,
    max(0, min(i.width, b.x_min)) as x, max(0, min(i.height, b.y_min)) as y,
    max(0, min(i.width, b.x_max) - max(0, b.x_min)) as width,
    max(0, min(i.height, b.y_max) - max(0, b.y_min)) as height
from (
    select id, item_id, 'missed' as state, class_name as class, x_min, y_min, x_max, y_max
    from annotations
    where id in (select value from json_each(:annotations)) and x_min is not null
    union all
    select id, item_id, 'wrong', class_name, x_min, y_min, x_max, y_max
    from predictions
    where id in (select value from json_each(:predictions))
) b
join items i on i.id = b.item_id
