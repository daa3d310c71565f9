/* Items whose number the neighbours get most wrong, in an evaluation of numbers */
select
    p.item_id,
    p.y_true as truth,
    round(p.y_pred, 4) as estimate,
    round(p.y_pred - p.y_true, 4) as error,
    i.uri
from cv_predictions p
join items i on i.id = p.item_id
where p.run_id = :evaluation
  and p.space_id = (select id from spaces where name = :space)
  and p.k = :k
  and p.weighting = :weighting
  and typeof(p.y_true) in ('integer', 'real')
  and p.y_pred is not null
order by abs(p.y_pred - p.y_true) desc, p.item_id
limit 200
