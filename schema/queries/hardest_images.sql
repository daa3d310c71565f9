/* The images that a detector finds hardest, by the loss of its classes */
select
    l.item_id,
    round(l.value, 4) as class_loss,
    m.n_gt as objects,
    m.tp as found,
    m.fn as missed,
    m.fp as false_alarms,
    round(m.mean_iou, 3) as mean_iou,
    i.uri
from losses l
join image_metrics m on m.run_id = l.run_id and m.item_id = l.item_id
join items i on i.id = l.item_id
where l.run_id = :detector and l.component = 'cls' and l.value is not null
order by l.value desc, l.item_id
limit 200
