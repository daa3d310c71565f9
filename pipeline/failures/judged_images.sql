-- The images with ground truth, each as the latest of :runs (a JSON array) judged it, and whether that
-- truth is still there: what a prediction matched may have been replaced by the same in other rows.
with latest as (
    select item_id, max(run_id) as run_id
    from image_metrics
    where run_id in (select value from json_each(:runs))
    group by item_id
)
select
    m.item_id, m.run_id, m.truth_sha256, m.n_gt, m.tp, m.fn, m.fp,
    m.mean_iou, m.mean_iou_gt, m.mean_conf, m.hit_freq, m.dice_score,
    m.truth_sha256 is t.truth_sha256
    and not exists (
        select 1
        from predictions p
        where p.run_id = m.run_id
          and p.item_id = m.item_id
          and p.iou is not null
          and p.matched_annotation_id is null
    ) as is_current
from latest
join image_metrics m on m.run_id = latest.run_id and m.item_id = latest.item_id
left join annotated_items t on t.item_id = m.item_id
where m.n_gt is not null
order by m.item_id
