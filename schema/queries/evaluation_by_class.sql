/* How well the neighbours tell each label: recall, precision, F1 */
with cells as (
    select y_true, y_pred, n
    from cv_confusion
    where run_id = :evaluation
      and space_id = (select id from spaces where name = :space)
      and k = :k
      and weighting = :weighting
),
labels as (
    select y_true as label from cells
    union
    select y_pred from cells where y_pred is not null
),
counted as (
    select
        label,
        (select ifnull(sum(n), 0) from cells where y_true = label) as items,
        (select ifnull(sum(n), 0) from cells where y_pred = label) as predicted,
        (select ifnull(sum(n), 0) from cells where y_true = label and y_pred = label) as hits
    from labels
)
select
    label,
    items,
    predicted,
    round(1.0 * hits / nullif(items, 0), 4) as recall,
    round(1.0 * hits / nullif(predicted, 0), 4) as precision,
    round(2.0 * hits / (items + predicted), 4) as f1
from counted
order by f1, label
