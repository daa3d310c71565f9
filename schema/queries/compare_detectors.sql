/* Where two detectors differ: the images on which one finds more than the other */
select
    a.item_id,
    a.n_gt as objects,
    a.tp as found,
    b.tp as found_by_other,
    a.fp as false_alarms,
    b.fp as false_alarms_of_other,
    round(a.mean_iou_gt, 3) as mean_iou_gt,
    round(b.mean_iou_gt, 3) as mean_iou_gt_of_other,
    i.uri
from image_metrics a
join image_metrics b on b.item_id = a.item_id and b.run_id = :other_detector
join items i on i.id = a.item_id
where a.run_id = :detector
  and a.truth_sha256 = b.truth_sha256
  and (a.tp <> b.tp or a.fp <> b.fp)
order by abs(a.tp - b.tp) desc, abs(a.fp - b.fp) desc, a.item_id
limit 200
