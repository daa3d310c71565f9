-- What a detector run saw in some items
select
    id,
    item_id,
    class_id,
    class_name,
    x_min,
    y_min,
    x_max,
    y_max,
    mask_json,
    confidence
from predictions
where run_id = :run and item_id in (select value from json_each(:items))
order by item_id, id
