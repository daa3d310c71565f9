-- What an evaluation predicted by: each of its spaces that is still there, k and weighting.
select distinct s.id, s.name, m.k, m.weighting
from cv_metrics m
join spaces s on s.id = m.space_id
where m.run_id = ?
order by s.name, m.k, m.weighting
