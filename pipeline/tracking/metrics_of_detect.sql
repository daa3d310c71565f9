-- What a detector's run comes to: of all objects, of the mean image, and its mean losses
with
    totals as (
        select
            sum(n_gt) as objects, sum(n_pred) as predictions, sum(tp) as tp, sum(fp) as fp, sum(fn) as fn,
            avg(mean_iou) as mean_iou, avg(mean_iou_gt) as mean_iou_gt, avg(mean_conf) as mean_conf,
            avg(hit_freq) as hit_freq, avg(dice_score) as dice_score
        from image_metrics
        where run_id = :run
    )
select 'detections/objects' as name, objects as value, null as step from totals
union all
select 'detections/predictions', predictions, null from totals
union all
select 'detections/tp', tp, null from totals
union all
select 'detections/fp', fp, null from totals
union all
select 'detections/fn', fn, null from totals
union all
select 'detections/precision', 1.0 * tp / nullif(tp + fp, 0), null from totals
union all
select 'detections/recall', 1.0 * tp / nullif(tp + fn, 0), null from totals
union all
select 'images/mean_iou', mean_iou, null from totals
union all
select 'images/mean_iou_gt', mean_iou_gt, null from totals
union all
select 'images/mean_conf', mean_conf, null from totals
union all
select 'images/hit_freq', hit_freq, null from totals
union all
select 'images/dice_score', dice_score, null from totals
union all
select 'loss/' || component, avg(value), null from losses where run_id = :run group by component
order by name
