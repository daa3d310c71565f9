-- The metrics of a detector on an item, and how many of the run's images have a smaller one. Of a run over
-- more than 2,000 numbers of items, evenly chosen ones stand for all.
with recursive
judged as materialized (
    select mean_iou, mean_iou_gt, mean_conf, hit_freq, dice_score
    from image_metrics where run_id = :run and item_id = :item
),
mine as materialized (
    select 'mean_iou' as metric, mean_iou as value from judged where mean_iou is not null
    union all select 'mean_iou_gt', mean_iou_gt from judged where mean_iou_gt is not null
    union all select 'mean_conf', mean_conf from judged where mean_conf is not null
    union all select 'hit_freq', hit_freq from judged where hit_freq is not null
    union all select 'dice_score', dice_score from judged where dice_score is not null
),
ends as materialized (
    select
        (select item_id from image_metrics where run_id = :run order by item_id limit 1) as first_id,
        (select item_id from image_metrics where run_id = :run order by item_id desc limit 1) as last_id
),
looked_at(item_id, last_id, step) as (
    select first_id, last_id, max(1, (last_id - first_id) / 2000) from ends
    union all
    select item_id + step, last_id, step from looked_at where item_id <= last_id - step
),
others as (
    select m.metric, m.value, case m.metric
        when 'mean_iou' then o.mean_iou
        when 'mean_iou_gt' then o.mean_iou_gt
        when 'mean_conf' then o.mean_conf
        when 'hit_freq' then o.hit_freq
        when 'dice_score' then o.dice_score
    end as other
    from mine m
    cross join looked_at
    cross join image_metrics o on o.run_id = :run and o.item_id = looked_at.item_id
)
select metric, value, count(other) as images, sum(other < value) as below, sum(other = value) as equal
from others
group by metric
order by metric desc
