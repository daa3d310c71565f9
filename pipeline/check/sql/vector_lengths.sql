-- Vectors that are not as long as their space says.
select s.name, v.item_id, length(v.vector), 4 * s.dimensions
from vectors v
join spaces s on s.id = v.space_id
where length(v.vector) <> 4 * s.dimensions
