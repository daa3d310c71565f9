-- The means of a detector's losses and metrics over all images that it has judged
select component || ' loss' as name, avg(value) as mean
from losses
where run_id = :detector
group by component
union all select 'mean_iou', avg(mean_iou) from image_metrics where run_id = :detector
union all select 'mean_iou_gt', avg(mean_iou_gt) from image_metrics where run_id = :detector
union all select 'mean_conf', avg(mean_conf) from image_metrics where run_id = :detector
union all select 'hit_freq', avg(hit_freq) from image_metrics where run_id = :detector
union all select 'dice_score', avg(dice_score) from image_metrics where run_id = :detector
