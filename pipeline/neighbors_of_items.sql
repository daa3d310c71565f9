-- The stored neighbours of the items of a run from :first to :last.
select item_id, rank, neighbor_id, distance
from neighbors
where run_id = :run and item_id between :first and :last
order by item_id, rank
