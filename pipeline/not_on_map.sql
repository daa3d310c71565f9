-- The items of a space that are not on a map, neither seen by its run nor placed.
select v.item_id
from vectors v
where v.space_id = :space_id and not exists (
    select 1 from projection_points p where p.run_id = :run and p.item_id = v.item_id
)
order by v.item_id
