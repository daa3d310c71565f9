-- Items whose number the neighbours get most wrong
select
    c.item_id as id, i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text,
    c.truth, c.estimate, c.estimate - c.truth as error
from (
    select p.item_id, p.y_true as truth, p.y_pred as estimate
    from cv_predictions p indexed by sqlite_autoindex_cv_predictions_1
    where p.run_id = :run
      and p.space_id = (select id from spaces where name = :space)
      and p.k = :k
      and p.weighting = :weighting
      and typeof(p.y_true) in ('integer', 'real')
      and typeof(p.y_pred) in ('integer', 'real')
    order by abs(p.y_pred - p.y_true) desc, p.item_id
    limit :limit offset :offset
) c
join items i on i.id = c.item_id
order by abs(c.estimate - c.truth) desc, c.item_id
