/* What a detector misses and invents, by class and size: below 32 x 32 pixels, below 96 x 96, and above */
with judged as (
    -- Only images whose annotations are still those that the detector was measured against.
    select m.item_id
    from image_metrics m
    join annotated_items t on t.item_id = m.item_id and t.truth_sha256 = m.truth_sha256
    where m.run_id = :detector
),
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
        -- COCO's areas: of an object's outline where it has one.
        coalesce(a.area, (a.x_max - a.x_min) * (a.y_max - a.y_min)) as area,
        not exists (
            select 1 from predictions p
            where p.run_id = :detector and p.item_id = a.item_id and p.matched_annotation_id = a.id
        ) as is_missed
    from annotations a
    join judged on judged.item_id = a.item_id
    cross join settings
    where a.is_crowd = 0 and a.x_min is not null
),
mistakes as (
    -- Objects of a class that the model does not have are no objects to it.
    select class, area, 1 as is_object, is_missed, 0 as is_false
    from objects, settings
    where settings.classes is null or class in (select value from json_each(settings.classes))
    union all
    select p.class_name, (p.x_max - p.x_min) * (p.y_max - p.y_min), 0, 0, 1
    from predictions p
    join judged on judged.item_id = p.item_id
    join settings on p.confidence >= settings.metrics_conf
    where p.run_id = :detector
      and p.iou is null
      -- What lies on a crowd of its class is neither right nor wrong.
      and not exists (
          select 1 from annotations c
          where c.item_id = p.item_id
            and c.is_crowd = 1
            and coalesce(c.class_name = p.class_name, c.class_id = p.class_id)
            and max(0, min(p.x_max, c.x_max) - max(p.x_min, c.x_min))
                * max(0, min(p.y_max, c.y_max) - max(p.y_min, c.y_min))
                >= 0.5 * (p.x_max - p.x_min) * (p.y_max - p.y_min)
      )
)
select
    class,
    case when area < 32 * 32 then 'small' when area < 96 * 96 then 'medium' else 'large' end as size,
    sum(is_object) as objects,
    sum(is_missed) as missed,
    round(1.0 * sum(is_missed) / sum(is_object), 3) as share_missed,
    sum(is_false) as false_alarms
from mistakes
group by 1, 2
order by missed + false_alarms desc, class, size
