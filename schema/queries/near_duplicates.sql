/* Pairs of items that lie closer together than a threshold */
select
    min(g.id, g.neighbor_id) as item_id,
    max(g.id, g.neighbor_id) as other_item_id,
    min(g.distance) as distance
from knn_graph(:space, cast(:k as integer)) g
where g.distance <= cast(:threshold as real)
group by 1, 2
order by distance, 1, 2
