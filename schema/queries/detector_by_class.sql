/* How well a detector finds each class: objects, found, missed, false alarms */
with judged as (
    -- Only images whose annotations are still those that the detector was measured against.
    select m.item_id
    from image_metrics m
    join annotated_items t on t.item_id = m.item_id and t.truth_sha256 = m.truth_sha256
    where m.run_id = :detector
),
-- Predictions that are too unsure to count as detections match nothing, and are no false alarms.
settings as (
    select
        json_extract(runs.parameters_json, '$.settings.metrics_conf') as metrics_conf,
        json_extract(models.parameters_json, '$.classes') as classes
    from runs join models on models.id = runs.model_id
    where runs.id = :detector
),
objects as (
    select
        coalesce(
            a.class_name,
            json_extract(settings.classes, '$[' || a.class_id || ']'),
            'number ' || a.class_id
        ) as class,
        count(*) as objects, count(p.id) as found, avg(p.iou) as mean_iou
    from annotations a
    join judged on judged.item_id = a.item_id
    cross join settings
    left join predictions p
        on p.matched_annotation_id = a.id and p.run_id = :detector
    where a.is_crowd = 0 and a.x_min is not null
    group by 1
),
alarms as (
    select p.class_name as class, count(*) as predictions, sum(p.iou is null) as unmatched
    from predictions p
    join judged on judged.item_id = p.item_id
    join settings on p.confidence >= settings.metrics_conf
    where p.run_id = :detector
      -- What lies on a crowd of its class is neither right nor wrong.
      and (p.iou is not null or not exists (
          select 1 from annotations c
          where c.item_id = p.item_id
            and c.is_crowd = 1
            and coalesce(c.class_name = p.class_name, c.class_id = p.class_id)
            and max(0, min(p.x_max, c.x_max) - max(p.x_min, c.x_min))
                * max(0, min(p.y_max, c.y_max) - max(p.y_min, c.y_min))
                >= 0.5 * (p.x_max - p.x_min) * (p.y_max - p.y_min)
      ))
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
