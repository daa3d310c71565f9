-- What a detector's judgement of an image consists of: the losses first, then the metrics
select distinct l.component || ' loss' as name, l.component, null as metric, 1 as place
from (select component from losses where run_id = :detector limit 100) l
union all
select m.value, null, m.value, 2
from json_each('["mean_iou", "mean_iou_gt", "mean_conf", "hit_freq", "dice_score"]') m
order by place, name
