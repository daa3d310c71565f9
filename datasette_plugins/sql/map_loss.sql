-- One component of a detector's loss for each image; NULL where there is none
select l.item_id, l.value
from losses l
where l.run_id = :by_run and l.component = :component
order by l.item_id
