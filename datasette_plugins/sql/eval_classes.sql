-- How well the neighbours tell each label: recall, precision and F1, the worst first
with cells as materialized (
    -- By its key, which has the predictions of one setting beside each other.
    select y_true, y_pred, count(*) as n
    from cv_predictions indexed by sqlite_autoindex_cv_predictions_1
    where run_id = :run
      and space_id = (select id from spaces where name = :space)
      and k = :k
      and weighting = :weighting
    group by y_true, y_pred
),
truth as (
    select y_true as label, sum(n) as items, sum(iif(y_pred is y_true, n, 0)) as hits
    from cells
    group by y_true
),
guesses as (
    select y_pred as label, sum(n) as predicted from cells where y_pred is not null group by y_pred
)
select
    ifnull(t.label, g.label) as label,
    ifnull(t.items, 0) as items,
    ifnull(g.predicted, 0) as predicted,
    ifnull(t.hits, 0) as hits,
    1.0 * t.hits / t.items as recall,
    1.0 * ifnull(t.hits, 0) / g.predicted as precision,
    2.0 * ifnull(t.hits, 0) / (ifnull(t.items, 0) + ifnull(g.predicted, 0)) as f1,
    ifnull(t.items, 0) + ifnull(g.predicted, 0) - 2 * ifnull(t.hits, 0) as mistakes
from truth t
full join guesses g on g.label = t.label
order by f1, label
limit :limit
