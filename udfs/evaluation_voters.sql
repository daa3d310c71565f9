-- Who votes for the items of a run in a space, or for one of them.
select item_id, neighbor_ids, distances
from cv_neighbors
where run_id = ?1 and space_id = ?2 and (?3 is null or item_id = ?3)
order by item_id
