-- A metric, or a component of the loss, of each image that two detector runs judged, and how it changed.
with metrics as (
    select
        m.run_id,
        m.item_id,
        m.truth_sha256,
        case
            when :component is not null then l.value
            else case :metric
                when 'mean_iou' then m.mean_iou
                when 'mean_iou_gt' then m.mean_iou_gt
                when 'hit_freq' then m.hit_freq
                when 'dice_score' then m.dice_score
                when 'tp' then m.tp
                when 'fp' then m.fp
                when 'fn' then m.fn
                when 'flag_cat' then m.flag_cat
                when 'flag_supercat' then m.flag_supercat
                when 'mean_conf' then m.mean_conf
                when 'n_pred' then m.n_pred
            end
        end as value
    from image_metrics m
    left join losses l
        on l.run_id = m.run_id and l.item_id = m.item_id and l.component = :component
),
pairs as (
    select
        a.item_id,
        a.value as value_a,
        b.value as value_b,
        case
            when a.value is null and b.value is null then 'neither run has a value'
            when a.value is null then 'run_a has no value'
            when b.value is null then 'run_b has no value'
            when :needs_truth and a.truth_sha256 is not b.truth_sha256
                then 'the ground truth changed between the runs'
        end as reason
    from metrics a
    join metrics b on b.run_id = :run_b and b.item_id = a.item_id
    where a.run_id = :run_a
)
select
    item_id,
    case
        when reason is not null then null
        when abs(value_b - value_a) <= :tolerance then 'same'
        when :better is null then iif(value_b > value_a, 'higher', 'lower')
        when (value_b > value_a) = (:better = 'higher') then 'improved'
        else 'regressed'
    end,
    value_a,
    value_b,
    iif(reason is null, value_b - value_a, null),
    reason
from pairs
order by item_id
