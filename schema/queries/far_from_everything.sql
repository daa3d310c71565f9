/* Items that lie farthest from their own nearest neighbours */
select
    g.id as item_id,
    max(g.distance) as distance,
    (select group_concat(l.name || ' ' || l.value, ', ') from item_labels l where l.item_id = g.id)
        as labels,
    i.uri
from knn_graph(:space, cast(:k as integer)) g
join items i on i.id = g.id
group by g.id
order by distance desc, g.id
limit cast(:limit as integer)
