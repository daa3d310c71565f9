-- The annotated objects of an image, and whether a prediction of :run found each.
select
    a.id, a.class_id, a.class_name, a.x_min, a.y_min, a.x_max, a.y_max,
    coalesce(a.area, (a.x_max - a.x_min) * (a.y_max - a.y_min)) as area,
    exists (
        select 1
        from predictions p
        where p.run_id = :run and p.item_id = a.item_id and p.matched_annotation_id = a.id
    ) as is_found,
    a.is_crowd
from annotations a
where a.item_id = :item and a.x_min is not null
order by a.id
