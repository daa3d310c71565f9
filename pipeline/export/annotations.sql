-- The ground truth of some items that has boxes
select
    id,
    item_id,
    class_id,
    class_name,
    x_min,
    y_min,
    x_max,
    y_max,
    polygons_json,
    mask_json,
    area,
    is_crowd
from annotations
where item_id in (select value from json_each(:items)) and x_min is not null
order by item_id, id
