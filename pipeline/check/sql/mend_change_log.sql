-- Empties the logs that do not end at their space's generation, and draws a later generation with a new
-- token. Caches and indexes then know that they do not know, and read the space again.
create temp table mended as
select s.id, max(s.generation, c.generation) + 1 as generation
from spaces s
join vector_changes c
    on c.space_id = s.id
    and c.generation = (select max(generation) from vector_changes where space_id = s.id)
where c.generation <> s.generation or c.generation_token <> s.generation_token;
delete from vector_changes where space_id in (select id from mended);
update spaces
set generation = (select generation from mended where mended.id = spaces.id), generation_token = random()
where id in (select id from mended);
drop table mended;
