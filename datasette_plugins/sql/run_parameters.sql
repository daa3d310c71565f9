-- The parameters of a run, those within others by their path; a list stays whole
select
    replace(substr(p.fullkey, 3), '"', '') as name,
    p.type,
    case
        when p.type in ('true', 'false', 'null') then p.type
        when p.type = 'array' then p.value
        else cast(p.value as text)
    end as value
from runs r, json_tree(r.parameters_json) p
where r.id = :run
  and p.fullkey <> '$'
  and not (p.type = 'object' and p.value <> '{}')
  and p.path not like '%[%'
order by p.id
