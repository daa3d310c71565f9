-- Items that are wrong with most of the votes, and in how many of the run's settings they are wrong
select
    c.item_id as id, i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text,
    c.label, c.predicted, c.share,
    sum(o.y_pred is not o.y_true) as wrong,
    count(*) as judged
from (
    select p.item_id, p.y_true as label, p.y_pred as predicted, p.score as share
    from cv_predictions p indexed by sqlite_autoindex_cv_predictions_1
    where p.run_id = :run
      and p.space_id = (select id from spaces where name = :space)
      and p.k = :k
      and p.weighting = :weighting
      and p.y_pred <> p.y_true
    -- Among as many as this, those that are wrong most often come first.
    order by p.score desc, p.item_id
    limit 200
) c
join cv_predictions o on o.item_id = c.item_id and o.run_id = :run
join items i on i.id = c.item_id
group by c.item_id
order by wrong desc, c.share desc, c.item_id
limit :limit
