-- The items nearest to an item in a space
select k.rank, k.id, k.distance, i.kind, i.sha256, i.width < 100 as is_tiny,
       substr(i.content, 1, 160) as text,
       (select group_concat(l.value, ', ') from item_labels l where l.item_id = k.id) as labels
from knn(:space, cast(:item as integer), cast(:k as integer)) k
join items i on i.id = k.id
order by k.rank
