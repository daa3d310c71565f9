-- How many items two evaluations predicted from the same truth, who was right how often, and who alone.
select
    count(*),
    ifnull(sum(a.y_pred is a.y_true), 0),
    ifnull(sum(b.y_pred is b.y_true), 0),
    ifnull(sum(b.y_pred is b.y_true and a.y_pred is not a.y_true), 0),
    ifnull(sum(a.y_pred is a.y_true and b.y_pred is not b.y_true), 0),
    ifnull(sum(a.y_pred is not b.y_pred and a.y_pred is not a.y_true and b.y_pred is not b.y_true), 0)
from cv_predictions a
join cv_predictions b
    on b.run_id = :run_b and b.space_id = :space_b and b.k = :k_b and b.weighting = :weighting_b
    and b.item_id = a.item_id
where a.run_id = :run_a and a.space_id = :space_a and a.k = :k_a and a.weighting = :weighting_a
  and a.y_true = b.y_true
