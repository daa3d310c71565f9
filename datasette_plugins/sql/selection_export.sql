-- The items of a selection with their labels, as they are exported
select
    i.id,
    i.kind,
    i.collection,
    i.uri,
    i.content as text,
    (select json_group_object(l.name, l.value) from item_labels l where l.item_id = i.id) as labels_json
from selection_items s
join items i on i.id = s.item_id
where s.selection_id = :selection
order by i.id
