-- Spaces: what kNN can search
select
    s.name as space,
    s.kind,
    m.name as model,
    s.metric,
    s.dimensions,
    (select count(*) from vectors v where v.space_id = s.id) as vectors
from spaces s
left join models m on m.id = s.model_id
order by s.name
