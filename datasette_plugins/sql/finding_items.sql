-- Items by their ids, as a JSON array, with their labels
select
    i.id, i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 400) as text, i.width, i.height,
    (select group_concat(l.name || ' ' || l.value, ', ') from item_labels l where l.item_id = i.id)
        as labels
from items i
where i.id in (select value from json_each(:ids))
