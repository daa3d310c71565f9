-- One metric of a detector for each image; NULL where it is not defined
select
    m.item_id,
    case :metric
        when 'n_gt' then m.n_gt
        when 'n_pred' then m.n_pred
        when 'tp' then m.tp
        when 'fp' then m.fp
        when 'fn' then m.fn
        when 'mean_iou' then m.mean_iou
        when 'mean_iou_gt' then m.mean_iou_gt
        when 'mean_conf' then m.mean_conf
        when 'hit_freq' then m.hit_freq
        when 'dice_score' then m.dice_score
        when 'flag_cat' then m.flag_cat
        when 'flag_supercat' then m.flag_supercat
    end as value
from image_metrics m
where m.run_id = :by_run
order by m.item_id
