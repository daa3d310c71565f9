/* Which space, k and weighting tell a label or a number best: an evaluation, the best first */
select
    s.name as space,
    m.k,
    m.weighting,
    round(max(m.value) filter (where m.fold is null and m.metric = 'accuracy'), 4) as accuracy,
    round(max(m.value) filter (where m.fold is null and m.metric = 'macro_f1'), 4) as macro_f1,
    round(max(m.value) filter (where m.fold is null and m.metric = 'top_5_accuracy'), 4)
        as top_5_accuracy,
    round(max(m.value) filter (where m.fold is null and m.metric = 'retrieval_map'), 4)
        as retrieval_map,
    round(max(m.value) filter (where m.fold is null and m.metric = 'mae'), 4) as mae,
    round(max(m.value) filter (where m.fold is null and m.metric = 'r2'), 4) as r2,
    round(max(m.value) filter (where m.fold is null and m.metric = 'spearman'), 4) as spearman,
    -- How far the folds are apart says how much of a difference may be chance.
    round(min(m.value) filter (where m.fold is not null and m.metric in ('accuracy', 'r2')), 4)
        as worst_fold,
    round(max(m.value) filter (where m.fold is not null and m.metric in ('accuracy', 'r2')), 4)
        as best_fold
from cv_metrics m
join spaces s on s.id = m.space_id
where m.run_id = :evaluation
group by m.space_id, m.k, m.weighting
order by ifnull(accuracy, r2) is null, ifnull(accuracy, r2) desc, m.k, m.weighting, s.name
