-- The levels of a clustering run, noise included
select level, clusters, items, noise, noise_share, assigned
from clustering_results
where run_id = :run
order by level
