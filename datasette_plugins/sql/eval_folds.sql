-- An evaluation fold by fold, for one space, k and weighting; fold NULL is over all
with sizes as (
    select fold, count(*) as items from folds where run_id = :run group by fold
)
select
    m.fold,
    ifnull(iif(m.fold is null, (select sum(items) from sizes), s.items), 0) as items,
    m.metric,
    m.value,
    m.reason
from cv_metrics m
left join sizes s on s.fold = m.fold
where m.run_id = :run
  and m.space_id = (select id from spaces where name = :space)
  and m.k = :k
  and m.weighting = :weighting
order by m.fold is null, m.fold, m.metric
