/* An evaluation fold by fold, and why a figure is missing */
select
    s.name as space,
    m.k,
    m.weighting,
    m.metric,
    m.fold,
    (select count(*) from folds f where f.run_id = m.run_id and f.fold = m.fold) as items,
    m.value,
    m.reason
from cv_metrics m
join spaces s on s.id = m.space_id
where m.run_id = :evaluation and m.fold is not null and m.k = :k and m.weighting = :weighting
order by s.name, m.metric, m.fold
