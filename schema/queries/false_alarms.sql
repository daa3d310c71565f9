/* What a detector is surest of and nobody annotated: mistakes, or labels that are missing */
select
    p.item_id,
    p.class_name as class,
    round(p.confidence, 3) as confidence,
    p.id as prediction_id,
    i.uri
from predictions p
join image_metrics m on m.run_id = p.run_id and m.item_id = p.item_id
join items i on i.id = p.item_id
-- What was matched has an iou, also when the annotation has been replaced since.
where p.run_id = :detector and p.iou is null and m.n_gt is not null
  -- Less sure predictions may be stored, but are no detections.
  and p.confidence >= (select json_extract(parameters_json, '$.settings.metrics_conf') from runs
                       where id = :detector)
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
order by p.confidence desc, p.id
limit 200
