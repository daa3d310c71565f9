-- The losses of a detector on an item
select component, value, reason
from losses
where run_id = :run and item_id = :item
order by component
