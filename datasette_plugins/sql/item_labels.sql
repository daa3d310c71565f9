-- The labels of an item
select name, value, source
from item_labels
where item_id = :item
order by name
