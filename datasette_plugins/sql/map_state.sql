-- What tells one state of a map from another: items may have been placed on it, or deleted
select count(*) as points, total(p.item_id) as ids, total(p.x) as x, total(p.y) as y
from projection_points p
where p.run_id = :run
