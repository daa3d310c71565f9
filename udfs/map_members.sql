-- Where a map has the items that it saw; not those that were placed on it later.
select item_id, x, y
from projection_points
where run_id = :run and placed_by_run_id is null
order by item_id
