-- The values of a label, the commonest first; the code is the place in this list
select row_number() over (order by count(*) desc, value) - 1 as code, value as name
from item_labels
where name = :name
group by value
order by code
