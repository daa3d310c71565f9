-- The settings of an evaluation, the most accurate first
select s.name, m.k, m.weighting
from cv_metrics m
join spaces s on s.id = m.space_id
where m.run_id = :evaluation
  and m.metric = 'accuracy'
  and m.fold is null
  and (:space is null or s.name = :space)
  and (:k is null or m.k = :k)
  and (:weighting is null or m.weighting = :weighting)
order by m.value is null, m.value desc, m.k, m.weighting, s.name
limit 1
