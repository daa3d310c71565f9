-- The images that the run has distances of: each is looked up by its index, not every row read.
select i.id
from items i
where exists (
    select 1
    from loss_distances d indexed by loss_distances_image
    where d.image_item_id = i.id and d.run_id = :run
)
order by i.id;
