-- The vectors that a run gave to the items from :first to :last, of whatever space.
select item_id, vector
from vectors
where run_id = :run and item_id between :first and :last
order by item_id
