-- Tags: the labels that people gave by hand
select name, value, count(*) as items
from item_labels
where source = 'hand'
group by name, value
order by name, items desc, value
limit :limit
