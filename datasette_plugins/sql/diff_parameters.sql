-- In what two runs differ: parameters, those within others by their path; model, seed, device, versions
with recorded (run, name, value) as (
    select r.id, replace(substr(p.fullkey, 3), '"', ''),
           case when p.type in ('true', 'false') then p.type
                when p.type <> 'null' then cast(p.value as text) end
    from runs r, json_tree(r.parameters_json) p
    where p.fullkey <> '$' and p.type <> 'object' and p.path not like '%[%'
    union all
    select r.id, 'seed', cast(r.seed as text) from runs r
    where json_type(r.parameters_json, '$.seed') is null
    union all
    select r.id, 'model', m.name from runs r join models m on m.id = r.model_id
    where json_type(r.parameters_json, '$.model') is null
    union all
    select r.id, 'device', r.device from runs r
    where json_type(r.parameters_json, '$.device') is null
    union all
    select r.id, 'version of ' || v.key, cast(v.value as text) from runs r, json_each(r.versions_json) v
)
select names.name, a.value as value_a, b.value as value_b
from (select distinct name from recorded
      where run in (cast(:run_a as integer), cast(:run_b as integer))) names
left join recorded a on a.run = :run_a and a.name = names.name
left join recorded b on b.run = :run_b and b.name = names.name
where a.value is not b.value
order by names.name like 'version of %', names.name
