-- Each image's latest losses (JSON by component) and metrics, of this run and of those that are like it
-- and finished or under way (another process may end at the same moment); only images with ground truth.
with this_run as (select id, model_id from runs where id = :run_id),
latest as (
    select m.item_id, max(m.run_id) as run_id
    from image_metrics m
    join runs on runs.id = m.run_id
    where runs.kind = 'detect'
      and runs.model_id = (select model_id from this_run)
      and runs.status in ('finished', 'running')
      and json_extract(runs.parameters_json, '$.settings') = json(:settings)
    group by m.item_id
)
select
    m.item_id,
    (select json_group_object(component, value) from losses
     where losses.run_id = m.run_id and losses.item_id = m.item_id),
    m.mean_iou, m.mean_conf, m.hit_freq, m.dice_score
from latest
join image_metrics m on m.item_id = latest.item_id and m.run_id = latest.run_id
where m.n_gt is not null
order by m.item_id
