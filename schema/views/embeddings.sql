-- One row an item and space that a model made of it, with what the model's last detect run says of the
-- item. The metrics and losses are NULL for models that do not detect (CLIP, DINO, text, pixels).
create view embeddings as
select
    v.item_id,
    s.name as space,
    m.name as model,
    m.family,
    v.vector,
    s.dimensions,
    im.hit_freq,
    im.mean_iou,
    im.mean_conf,
    im.dice_score,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'box') as box_loss,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'cls') as cls_loss,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'dfl') as dfl_loss,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'seg') as seg_loss,
    im.flag_cat,
    im.flag_supercat,
    v.run_id,
    im.run_id as detect_run_id
from vectors v
join spaces s on s.id = v.space_id
left join models m on m.id = s.model_id
left join image_metrics im
    on im.item_id = v.item_id
    and im.run_id = (select max(judged.run_id) from image_metrics judged
                     join runs on runs.id = judged.run_id
                     where judged.item_id = v.item_id and runs.model_id = s.model_id)
where s.kind in ('embedding', 'feature');
