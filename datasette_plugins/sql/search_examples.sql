-- The items that a search starts from, and whether the space holds a vector of each
select
    i.id, i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 240) as text,
    vector_of(:space, i.id) is not null as is_in_space
from json_each(:items) asked
join items i on i.id = asked.value
order by asked.key
