-- The items nearest to an image that was sent: its vector, as embed_image gave it
select
    k.id, k.distance, i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 240) as text,
    (select group_concat(l.value, ', ') from item_labels l where l.item_id = k.id) as labels
from knn(:space, unhex(:image), cast(:k as integer), nullif(:within, '')) k
join items i on i.id = k.id
order by k.rank
