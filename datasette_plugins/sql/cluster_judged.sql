-- The means of a detector's losses and metrics in a cluster, or in a level's noise where :cluster is NULL
with
members as materialized (
    select m.item_id
    from memberships m
    where m.run_id = :run and m.level = :level
      and m.cluster_id is (select c.id from clusters c
                           where c.run_id = :run and c.level = :level and c.label = :cluster)
),
metrics as (
    select avg(j.mean_iou) as mean_iou, count(j.mean_iou) as n_mean_iou,
           avg(j.mean_iou_gt) as mean_iou_gt, count(j.mean_iou_gt) as n_mean_iou_gt,
           avg(j.mean_conf) as mean_conf, count(j.mean_conf) as n_mean_conf,
           avg(j.hit_freq) as hit_freq, count(j.hit_freq) as n_hit_freq,
           avg(j.dice_score) as dice_score, count(j.dice_score) as n_dice_score
    from members m
    cross join image_metrics j on j.run_id = :detector and j.item_id = m.item_id
)
select l.component || ' loss' as name, avg(l.value) as mean, count(l.value) as items, 0 as is_metric
from members m
cross join losses l on l.run_id = :detector and l.item_id = m.item_id
group by l.component
union all select 'mean_iou', mean_iou, n_mean_iou, 1 from metrics
union all select 'mean_iou_gt', mean_iou_gt, n_mean_iou_gt, 1 from metrics
union all select 'mean_conf', mean_conf, n_mean_conf, 1 from metrics
union all select 'hit_freq', hit_freq, n_hit_freq, 1 from metrics
union all select 'dice_score', dice_score, n_dice_score, 1 from metrics
order by is_metric, name
