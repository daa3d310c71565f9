-- What :run predicted in an image, the surest first.
select
    p.id, p.class_id, p.class_name, p.confidence, p.x_min, p.y_min, p.x_max, p.y_max,
    p.iou is not null as is_right
from predictions p
where p.run_id = :run and p.item_id = :item
order by p.confidence desc, p.id
