-- Spaces whose log of changes does not end at their generation, in words: what was built on them could
-- be stale without anybody knowing. A log that was emptied tells nothing, and everybody reads anew.
select 'space ' || s.name || ' is at generation ' || s.generation || ', and its newest change is logged '
    || case when c.generation = s.generation then 'with another token'
            else 'as generation ' || c.generation end
from spaces s
join vector_changes c
    on c.space_id = s.id
    and c.generation = (select max(generation) from vector_changes where space_id = s.id)
where c.generation <> s.generation or c.generation_token <> s.generation_token
