-- The spaces that hold a vector of an item
select s.name as space, s.metric, s.dimensions
from vectors v
join spaces s on s.id = v.space_id
where v.item_id = :item
order by s.name
