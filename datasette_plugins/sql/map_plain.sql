-- The points of a map, all alike
select p.x, p.y, p.item_id, 0 as code
from projection_points p
where p.run_id = :run
  and ((p.item_id & 4294967295) * 1640531527 & 4294967295) < :keep_below
order by p.item_id
