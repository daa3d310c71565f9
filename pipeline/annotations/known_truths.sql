-- The ground truth stored of these items: the hash of it where it is complete, and where it is not the
-- columns that the hash is made of. The JSON of a mask is one of them only where no polygon draws it.
select item_id, truth_sha256, null, null, null, null, null, null, null, null, null
from annotated_items
where item_id in (select value from json_each(?1))
union all
select
    a.item_id, null, a.class_id, a.class_name, a.x_min, a.y_min, a.x_max, a.y_max, a.polygons_json,
    iif(a.polygons_json is null, a.mask_json, null), a.is_crowd
from annotations a
where a.item_id in (select value from json_each(?1))
  and not exists (select 1 from annotated_items t where t.item_id = a.item_id)
