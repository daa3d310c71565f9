-- The items of a selection
select i.id, i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text, i.sha256,
       (select group_concat(l.value, ', ') from item_labels l where l.item_id = i.id) as labels
from selection_items s
join items i on i.id = s.item_id
where s.selection_id = :selection
order by i.id
limit :limit offset :offset
