-- Two spaces, and how many items each holds
select s.name, s.kind, s.dimensions, s.metric, m.name as model,
       (select count(*) from vectors v where v.space_id = s.id) as vectors
from spaces s
left join models m on m.id = s.model_id
where s.name in (:space_a, :space_b)
