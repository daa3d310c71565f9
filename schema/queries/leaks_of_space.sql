/* Near-duplicates that have different values of a label, such as a split */
select
    l.id as item_id,
    l.value,
    l.neighbor_id as other_item_id,
    l.neighbor_value as other_value,
    l.distance,
    l.is_exact,
    i.uri
from leaks(:space, :label) l
join items i on i.id = l.id
order by l.distance, l.id
