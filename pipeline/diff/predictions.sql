-- The items that two evaluations predict differently
select
    d.id as item_id, d.change, d.y_true, d.y_pred_a, d.y_pred_b, d.score_a, d.score_b,
    i.uri, substr(i.content, 1, 200) as text
from evaluation_diff(
    :run_a, :run_b, :k, :weighting, :space, :other_k, :other_weighting, :other_space
) d
join items i on i.id = d.id
order by
    case d.change when 'lost' then 1 when 'gained' then 2 when 'still wrong' then 3 end,
    case when d.change in ('closer', 'farther', 'as far')
        then abs(abs(d.y_pred_b - d.y_true) - abs(d.y_pred_a - d.y_true)) end desc,
    d.id
