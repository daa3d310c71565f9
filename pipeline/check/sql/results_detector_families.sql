-- detectors behind detections
-- of runs
-- Only a run of the yolo family writes what a detector writes; triggers see to it, unless they were dropped.
select 'run ' || r.id || ' wrote ' || t.name || ', and its model is no detector', r.id
from (
    select run_id, 'predictions' as name from predictions
    union select run_id, 'losses' from losses
    union select run_id, 'image_metrics' from image_metrics
    union select run_id, 'feature_maps' from feature_maps
    union select run_id, 'loss_distances' from loss_distances
) t
join runs r on r.id = t.run_id
left join models m on m.id = r.model_id
where m.family is not 'yolo'
