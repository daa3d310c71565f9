-- The items of one cell of a confusion matrix, or those that were taken for another label
select
    c.item_id as id, i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text,
    c.label, c.predicted, c.share, c.total
from (
    select
        p.item_id, p.y_true as label, p.y_pred as predicted, p.score as share,
        count(*) over () as total
    from cv_predictions p indexed by sqlite_autoindex_cv_predictions_1
    where p.run_id = :run
      and p.space_id = (select id from spaces where name = :space)
      and p.k = :k
      and p.weighting = :weighting
      and case :shown
          when 'cell' then p.y_true = :label and p.y_pred = :predicted
          when 'nobody' then p.y_true = :label and p.y_pred is null
          when 'label' then p.y_true = :label
          when 'missed' then p.y_true = :label and p.y_pred is not p.y_true
          when 'mistaken' then p.y_pred = :predicted and p.y_pred <> p.y_true
          when 'wrong' then p.y_pred is not p.y_true
          else p.y_pred = p.y_true
      end
    order by p.score desc, p.item_id
    limit :limit offset :offset
) c
join items i on i.id = c.item_id
order by c.share desc, c.item_id
