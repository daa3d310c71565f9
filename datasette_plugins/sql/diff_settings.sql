-- By what two evaluations predicted: spaces, ks and weightings
select distinct c.run_id, s.name as space, c.k, c.weighting
from cv_metrics c
join spaces s on s.id = c.space_id
where c.run_id in (cast(:run_a as integer), cast(:run_b as integer)) and c.fold is null
order by c.run_id, s.name, c.k, c.weighting
