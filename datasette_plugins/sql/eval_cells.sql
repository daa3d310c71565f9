-- Which label was taken for which, right ones included; predicted NULL: no neighbour had a vote
with cells as materialized (
    -- By its key, which has the predictions of one setting beside each other.
    select y_true, y_pred, count(*) as n
    from cv_predictions indexed by sqlite_autoindex_cv_predictions_1
    where run_id = :run
      and space_id = (select id from spaces where name = :space)
      and k = :k
      and weighting = :weighting
    group by y_true, y_pred
)
select
    y_true as label,
    y_pred as predicted,
    n as items,
    1.0 * n / sum(n) over (partition by y_true) as share_of_label
from cells
order by n desc, y_true, y_pred
limit :limit
