/* The ten images with the largest loss of each component, and what the detector found there */
select component, place, item_id, loss, objects, found, missed, false_alarms, mean_iou, uri
from (
    select
        l.component,
        row_number() over (partition by l.component order by l.value desc, l.item_id) as place,
        l.item_id,
        round(l.value, 4) as loss,
        m.n_gt as objects,
        m.tp as found,
        m.fn as missed,
        m.fp as false_alarms,
        round(m.mean_iou, 3) as mean_iou,
        i.uri
    from losses l
    join image_metrics m on m.run_id = l.run_id and m.item_id = l.item_id
    join items i on i.id = l.item_id
    where l.run_id = :detector and l.value is not null
)
where place <= 10
order by component, place
