-- The commonest labels
select name, value, count(*) as items
from item_labels
group by name, value
order by items desc, name, value
limit :limit
