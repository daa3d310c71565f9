-- The items that two evaluations predict differently, those that the second lost first
select
    d.id, d.change, d.y_true, d.y_pred_a, d.y_pred_b, d.score_a, d.score_b,
    i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text
from evaluation_diff(
    cast(:run_a as integer), cast(:run_b as integer),
    cast(:k as integer), :weighting, :space,
    cast(:other_k as integer), :other_weighting, :other_space
) d
join items i on i.id = d.id
where :change in ('', d.change)
order by
    case d.change when 'lost' then 1 when 'gained' then 2 when 'still wrong' then 3 end,
    case when d.change in ('closer', 'farther', 'as far')
        then abs(abs(d.y_pred_b - d.y_true) - abs(d.y_pred_a - d.y_true)) end desc,
    d.id
limit :limit offset :offset
