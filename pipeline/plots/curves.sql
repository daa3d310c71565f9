-- The metrics of an evaluation by k, each with the range of its folds; value NULL: undefined, and why
select
    s.name as space,
    m.weighting,
    m.metric,
    m.k,
    max(m.value) filter (where m.fold is null) as value,
    min(m.value) filter (where m.fold is not null) as worst_fold,
    max(m.value) filter (where m.fold is not null) as best_fold,
    max(m.reason) filter (where m.fold is null) as reason
from cv_metrics m
join spaces s on s.id = m.space_id
where m.run_id = :evaluation
group by m.metric, s.name, m.weighting, m.k
order by m.metric, s.name, m.weighting, m.k
