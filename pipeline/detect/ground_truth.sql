-- The objects of these items, in the order they were annotated. Without a box there is nothing to find:
-- a class alone is a label of the item, not an object in it.
select
    a.item_id, a.id, a.class_id, a.class_name, a.x_min, a.y_min, a.x_max, a.y_max,
    a.mask_json, a.polygons_json, a.is_crowd
from annotations a
join annotated_items t on t.item_id = a.item_id
where a.item_id in (select value from json_each(?))
  and a.x_min is not null
order by a.item_id, a.id
