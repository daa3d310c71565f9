-- The points of a map, each with its item's value of a label (NULL: it has none)
select p.x, p.y, l.value
from projection_points p
left join item_labels l on l.item_id = p.item_id and l.name = :name
where p.run_id = :map
order by p.item_id
