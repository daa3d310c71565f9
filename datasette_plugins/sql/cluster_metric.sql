-- The mean of a metric in each cluster of a level; cluster_id NULL is the noise
select m.cluster_id, avg(j.value) as mean, count(j.value) as items
from memberships m
join (
    select
        item_id,
        case :metric
            when 'mean_iou' then mean_iou
            when 'mean_iou_gt' then mean_iou_gt
            when 'mean_conf' then mean_conf
            when 'hit_freq' then hit_freq
            when 'dice_score' then dice_score
        end as value
    from image_metrics
    where run_id = :detector
) j on j.item_id = m.item_id
where m.run_id = :run and m.level = :level
group by m.cluster_id
