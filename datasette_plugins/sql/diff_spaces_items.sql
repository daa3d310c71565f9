-- The items that have so many of their nearest neighbours in both spaces
select o.id, o.shared, i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text
from space_overlap(:space_a, :space_b, cast(:k as integer)) o
join items i on i.id = o.id
where o.shared = cast(:shared as integer)
order by o.id
limit :limit offset :offset
