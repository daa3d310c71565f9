-- The detectors that have seen an item, the newest first, and how sure a prediction must be to count
select
    m.run_id, d.name as model, r.finished_at,
    cast(json_extract(r.parameters_json, '$.settings.metrics_conf') as real) as metrics_conf,
    m.n_gt, m.tp, m.fn, m.fp, m.mean_iou, m.mean_iou_gt, m.mean_conf, m.hit_freq, m.dice_score
from image_metrics m
join runs r on r.id = m.run_id
left join models d on d.id = r.model_id
where m.item_id = :item
order by m.run_id desc
