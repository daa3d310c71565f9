-- How the texts of a map begin, and how many letters each has
select i.id, substr(i.content, 1, :letters), length(i.content)
from projection_points p
join items i on i.id = p.item_id
where p.run_id = :run and i.kind = 'text'
