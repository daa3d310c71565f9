-- Whether a space of metrics cannot have this name: another space or another model bears it.
select 1
from spaces s
left join models m on m.id = s.model_id
where s.name = :name
  and (s.kind, s.dimensions, m.name) is not ('metric', :dimensions, :name)
union all
select 1 from models where name = :name and family <> 'other'
