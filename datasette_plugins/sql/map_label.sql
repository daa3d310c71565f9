-- Which value of a label each item has, by its place among the values, the commonest first
with names as materialized (
    select value, row_number() over (order by count(*) desc, value) - 1 as code
    from item_labels
    where name = :name
    group by value
)
select l.item_id, names.code
from names
-- One range of the index for each value, rather than one search for each item.
cross join item_labels l on l.name = :name and l.value = names.value
