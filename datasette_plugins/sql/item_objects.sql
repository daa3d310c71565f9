-- The annotated objects of an item, cut off at its edges; found: the prediction that matched it in a run
select
    a.id, coalesce(a.class_name, 'class ' || a.class_id) as class, a.is_crowd,
    max(0, min(i.width, a.x_min)) as x, max(0, min(i.height, a.y_min)) as y,
    max(0, min(i.width, a.x_max) - max(0, a.x_min)) as width,
    max(0, min(i.height, a.y_max) - max(0, a.y_min)) as height,
    coalesce(a.area, (a.x_max - a.x_min) * (a.y_max - a.y_min)) as area,
    p.id as prediction_id, p.confidence, p.iou,
    iif(length(a.mask_json) <= 200000, a.mask_json, null) as mask_json,
    iif(a.mask_json is null and length(a.polygons_json) <= 200000, a.polygons_json, null) as polygons_json,
    length(coalesce(a.mask_json, a.polygons_json)) > 200000 as is_mask_too_long
from annotations a
join items i on i.id = a.item_id
left join predictions p
    on p.run_id = :run and p.item_id = a.item_id and p.matched_annotation_id = a.id
where a.item_id = :item and a.x_min is not null
order by a.id
limit :limit
