-- The names under which items carry labels, the commonest first
select name, count(*) as items
from item_labels
group by name
order by items desc, name
