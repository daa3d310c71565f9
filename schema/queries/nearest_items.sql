/* The items nearest to an item */
select
    k.rank,
    k.id as item_id,
    k.distance,
    (select group_concat(l.name || ' ' || l.value, ', ') from item_labels l where l.item_id = k.id)
        as labels,
    i.uri,
    substr(i.content, 1, 200) as text
from knn(:space, cast(:item as integer), cast(:k as integer)) k
join items i on i.id = k.id
order by k.rank
