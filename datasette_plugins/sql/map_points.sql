-- The points of a map, in the order of their items
select p.item_id, p.x, p.y
from projection_points p
where p.run_id = :run
order by p.item_id
