/* Items that are unusually far from their own neighbours */
select
    o.id as item_id,
    o.distance,
    o.z_score,
    o.z_score > 3.5 as is_outlier,
    (select group_concat(l.name || ' ' || l.value, ', ') from item_labels l where l.item_id = o.id)
        as labels,
    i.uri
from outliers(:space, cast(:k as integer)) o
join items i on i.id = o.id
order by o.distance desc, o.id
limit 200
