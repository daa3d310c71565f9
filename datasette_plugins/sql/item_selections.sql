-- The selections that hold an item
select s.id, s.name
from selection_items h
join selections s on s.id = h.selection_id
where h.item_id = :item
order by s.name
