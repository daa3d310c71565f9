-- The items of which two evaluations predict different things, and whether the second does better.
-- Items whose true value was another one in one of them are left out.
select
    a.item_id,
    case
        when :is_label then
            case when b.y_pred is a.y_true then 'gained' when a.y_pred is a.y_true then 'lost'
                 else 'still wrong' end
        when a.y_pred is null or b.y_pred is null then null
        when abs(b.y_pred - a.y_true) < abs(a.y_pred - a.y_true) then 'closer'
        when abs(b.y_pred - a.y_true) > abs(a.y_pred - a.y_true) then 'farther'
        else 'as far'
    end,
    a.y_true,
    a.y_pred,
    b.y_pred,
    a.score,
    b.score
from cv_predictions a
join cv_predictions b
    on b.run_id = :run_b and b.space_id = :space_b and b.k = :k_b and b.weighting = :weighting_b
    and b.item_id = a.item_id
where a.run_id = :run_a and a.space_id = :space_a and a.k = :k_a and a.weighting = :weighting_a
  and a.y_true = b.y_true
  and a.y_pred is not b.y_pred
order by a.item_id
