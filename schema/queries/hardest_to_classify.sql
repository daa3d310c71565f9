/* Items that an evaluation gets wrong for most of its k, weightings and spaces */
select
    p.item_id,
    p.y_true as label,
    sum(p.y_pred is not p.y_true) as wrong,
    count(*) as judged,
    -- What it was taken for most often.
    (select w.y_pred from cv_predictions w
     where w.run_id = p.run_id and w.item_id = p.item_id and w.y_pred <> w.y_true
     group by w.y_pred order by count(*) desc, max(w.score) desc, w.y_pred limit 1) as taken_for,
    round(avg(p.score) filter (where p.y_pred <> p.y_true), 4) as share_against,
    i.uri
from cv_predictions p
join items i on i.id = p.item_id
where p.run_id = :evaluation
  and exists (select 1 from runs r
              where r.id = p.run_id and json_extract(r.parameters_json, '$.label') is not null)
group by p.item_id
having wrong > 0
order by wrong desc, share_against desc, p.item_id
limit 200
