-- How many items each of two evaluations predicted, and both; with another truth, and in another fold
with one as (
    select item_id, y_true, fold from cv_predictions
    where run_id = :run_a and space_id = :space_id_a and k = :k and weighting = :weighting
),
other as (
    select item_id, y_true, fold from cv_predictions
    where run_id = :run_b and space_id = :space_id_b and k = :other_k
      and weighting = :other_weighting
)
select
    (select count(*) from one),
    (select count(*) from other),
    count(*),
    ifnull(sum(one.y_true is not other.y_true), 0),
    ifnull(sum(one.fold <> other.fold), 0)
from one
join other using (item_id)
