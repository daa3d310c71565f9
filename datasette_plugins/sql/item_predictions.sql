-- What a detector sees in an item, cut off at its edges, the surest first
select
    p.id, coalesce(p.class_name, 'class ' || p.class_id) as class, p.confidence, p.iou,
    p.matched_annotation_id,
    max(0, min(i.width, p.x_min)) as x, max(0, min(i.height, p.y_min)) as y,
    max(0, min(i.width, p.x_max) - max(0, p.x_min)) as width,
    max(0, min(i.height, p.y_max) - max(0, p.y_min)) as height,
    (p.x_max - p.x_min) * (p.y_max - p.y_min) as area,
    iif(length(p.mask_json) <= 200000, p.mask_json, null) as mask_json,
    length(p.mask_json) > 200000 as is_mask_too_long
from predictions p
join items i on i.id = p.item_id
where p.run_id = :run and p.item_id = :item
order by p.confidence desc, p.id
limit :limit
