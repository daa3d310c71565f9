-- The spaces that can be compared: those with vectors
select s.name, s.dimensions, s.metric
from spaces s
where exists (select 1 from vectors v where v.space_id = s.id)
order by s.name
