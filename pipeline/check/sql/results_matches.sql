-- objects matched to predictions
-- of predictions
-- A prediction is matched to an object of its own image.
select 'prediction ' || p.id || ' of run ' || p.run_id || ' is matched to an object of item ' || a.item_id
    || ', class ' || a.class_id, p.run_id
from predictions p
join annotations a on a.id = p.matched_annotation_id
where a.item_id <> p.item_id
