-- The metrics of an evaluation over all folds, by k, and the best of each space
select m.metric || '/' || s.name || '/' || m.weighting as name, m.value, m.k as step
from cv_metrics m
join spaces s on s.id = m.space_id
where m.run_id = :run and m.fold is null and m.value is not null
union all
select 'best_' || m.metric || '/' || s.name, max(m.value), null
from cv_metrics m
join spaces s on s.id = m.space_id
where m.run_id = :run and m.fold is null and m.value is not null and m.metric in ('accuracy', 'r2')
group by m.metric, s.name
order by step, name
