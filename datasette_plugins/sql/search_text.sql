-- The items nearest to a text, in a space whose model has a place for texts
select
    k.id, k.distance, i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 240) as text,
    (select group_concat(l.value, ', ') from item_labels l where l.item_id = k.id) as labels
from knn(:space, embed_text(:space, :text), cast(:k as integer), nullif(:within, '')) k
join items i on i.id = k.id
order by k.rank
