-- What went wrong with an item, in whichever run
select run_id, stage, message, created_at
from item_errors
where item_id = :item
order by id desc
limit 20
