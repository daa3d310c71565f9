-- places on maps
-- of projection_points
-- Infinity is a number to SQLite, and no place.
select 'item ' || item_id || ' of run ' || run_id || ' lies at infinity', run_id
from projection_points
where abs(x) > 1e308 or abs(y) > 1e308
