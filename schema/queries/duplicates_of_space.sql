/* Items that are there more than once, and what they are copies of */
select
    d.id as item_id,
    d.neighbor_id as other_item_id,
    d.distance,
    d.is_exact,
    d.group_id,
    d.group_size,
    i.uri
from duplicates(:space) d
join items i on i.id = d.id
where d.id <> d.group_id
order by d.group_id, d.id
