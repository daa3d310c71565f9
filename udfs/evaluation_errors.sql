-- The errors of two evaluations of the same numbers, and how far apart they are: one row an item of both
select
    abs(a.y_pred - a.y_true),
    abs(b.y_pred - b.y_true),
    abs(a.y_pred - b.y_pred)
from cv_predictions a
join cv_predictions b
    on b.run_id = :run_b and b.space_id = :space_b and b.k = :k_b and b.weighting = :weighting_b
    and b.item_id = a.item_id
where a.run_id = :run_a and a.space_id = :space_a and a.k = :k_a and a.weighting = :weighting_a
  and a.y_true = b.y_true
  and a.y_pred is not null
  and b.y_pred is not null
order by a.item_id
