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
where p.run_id = :detector and p.matched_annotation_id is null and m.n_gt is not null
  -- Less sure predictions may be stored, but are no detections.
  and p.confidence >= (select json_extract(parameters_json, '$.settings.metrics_conf') from runs
                       where id = :detector)
order by p.confidence desc, p.id
limit 200
