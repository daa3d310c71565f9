/* How well a detector finds each class: objects, found, missed, false alarms */
with judged as (
    select item_id from image_metrics where run_id = :detector and n_gt is not null
),
objects as (
    select a.class_name as class, count(*) as objects, count(p.id) as found, avg(p.iou) as mean_iou
    from annotations a
    join judged on judged.item_id = a.item_id
    left join predictions p
        on p.matched_annotation_id = a.id and p.run_id = :detector
    where a.is_crowd = 0 and a.x_min is not null
    group by a.class_name
),
-- Predictions that are too unsure to count as detections match nothing, and are no false alarms.
settings as (
    select json_extract(parameters_json, '$.settings.metrics_conf') as metrics_conf
    from runs where id = :detector
),
alarms as (
    select p.class_name as class, count(*) as predictions, sum(p.matched_annotation_id is null) as unmatched
    from predictions p
    join judged on judged.item_id = p.item_id
    join settings on p.confidence >= settings.metrics_conf
    where p.run_id = :detector
    group by p.class_name
)
select
    coalesce(o.class, a.class) as class,
    coalesce(o.objects, 0) as objects,
    coalesce(o.found, 0) as found,
    coalesce(o.objects - o.found, 0) as missed,
    coalesce(a.unmatched, 0) as false_alarms,
    round(1.0 * o.found / o.objects, 3) as recall,
    round(1.0 * (a.predictions - a.unmatched) / a.predictions, 3) as precision,
    round(o.mean_iou, 3) as mean_iou
from objects o
full join alarms a on a.class = o.class
order by objects desc, class
