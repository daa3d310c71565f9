-- An evaluation by space, k and weighting: each metric, and how far its folds are apart
select
    s.name as space,
    m.k,
    m.weighting,
    m.metric,
    max(m.value) filter (where m.fold is null) as value,
    max(m.reason) filter (where m.fold is null) as reason,
    min(m.value) filter (where m.fold is not null) as worst_fold,
    max(m.value) filter (where m.fold is not null) as best_fold
from cv_metrics m
join spaces s on s.id = m.space_id
where m.run_id = :run
group by s.name, m.k, m.weighting, m.metric
order by s.name, m.weighting, m.k, m.metric
