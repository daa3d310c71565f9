-- The ground truth of these items: its hash and its objects, in the order they were annotated; of an item
-- without objects one row, without an annotation's id. One statement, so that hash and objects belong
-- together whatever another process writes meanwhile. Without a box there is nothing to find: a class
-- alone is a label of the item, not an object in it.
select
    t.item_id, t.truth_sha256, a.id, a.class_id, a.class_name, a.x_min, a.y_min, a.x_max, a.y_max,
    a.mask_json, a.polygons_json, a.is_crowd
from annotated_items t
left join annotations a on a.item_id = t.item_id and a.x_min is not null
where t.item_id in (select value from json_each(?))
order by t.item_id, a.id
