-- The points of a map with their outlier scores; NULL where the run gave none
select p.x, p.y, p.item_id, m.outlier_score as score
from projection_points p
left join memberships m
    on m.run_id = :by_run and m.level = :level and m.item_id = p.item_id
where p.run_id = :run
  and ((p.item_id & 4294967295) * 1640531527 & 4294967295) < :keep_below
order by p.item_id
