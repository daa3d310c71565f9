-- The images of a run that are still to be compared with: their ground truth has not changed since.
select m.item_id
from image_metrics m
left join annotated_items t on t.item_id = m.item_id
where m.run_id = ? and m.truth_sha256 is t.truth_sha256
order by m.item_id
