-- The maps that show an item
select p.run_id
from projection_points p
where p.item_id = :item
order by p.run_id desc
