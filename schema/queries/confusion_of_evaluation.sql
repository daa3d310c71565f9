/* Which label was taken for which other in an evaluation, the most frequent first */
select
    c.y_true as label,
    c.y_pred as predicted,
    c.n as items,
    round(1.0 * c.n / c.all_of_label, 4) as share_of_label
from (
    select y_true, y_pred, n, sum(n) over (partition by y_true) as all_of_label
    from cv_confusion
    where run_id = :evaluation
      and space_id = (select id from spaces where name = :space)
      and k = :k
      and weighting = :weighting
) c
where c.y_pred is not c.y_true
order by c.n desc, c.y_true, c.y_pred
