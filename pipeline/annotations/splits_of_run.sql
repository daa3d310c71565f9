-- The splits of the items whose ground truth a run brought, where labels said them.
select l.item_id, l.value
from item_labels l
where l.name = 'split' and l.source = :source and l.item_id in (
    select item_id from annotated_items where run_id = :run
    union
    select item_id from annotations where run_id = :run
)
order by l.item_id
