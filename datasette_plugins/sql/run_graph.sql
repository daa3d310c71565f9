-- What a run stands on and what was made from it: runs, spaces and collections, and who reads whom
with recursive
-- Which run wrote vectors of which space: a step through the index for each pair, not for each vector.
wrote (vector_id) as (
    select (select id from vectors where run_id is not null order by run_id, space_id limit 1)
    union all
    select (select n.id from vectors n where (n.run_id, n.space_id) > (v.run_id, v.space_id)
            order by n.run_id, n.space_id limit 1)
    from wrote w
    join vectors v on v.id = w.vector_id
),
edges (source, target) as materialized (
    select 'run ' || input_run_id, 'run ' || run_id from run_inputs where input_run_id is not null
    union
    select 'space ' || space_id, 'run ' || run_id from run_inputs where space_id is not null
    union
    select 'collection ' || name, 'run ' || run_id from run_inputs where kind = 'collection'
    union
    select 'run ' || parent_run_id, 'run ' || id from runs where parent_run_id is not null
    union
    select 'run ' || v.run_id, 'space ' || v.space_id from wrote w join vectors v on v.id = w.vector_id
    union
    select 'run ' || r.id, 'collection ' || (select i.collection from items i where i.run_id = r.id limit 1)
    from runs r
    where exists (select 1 from items i where i.run_id = r.id)
),
before (node, steps) as (
    select 'run ' || cast(:run as integer), 0
    union
    select e.source, b.steps + 1 from before b join edges e on e.target = b.node where b.steps < 12
),
after (node, steps) as (
    select 'run ' || cast(:run as integer), 0
    union
    select e.target, a.steps + 1 from after a join edges e on e.source = a.node where a.steps < 12
),
nodes (node, steps) as (
    select node, -min(steps) from before group by node
    union all
    select node, min(steps) from after where node not in (select node from before) group by node
),
parts as (
    select node, steps, substr(node, 1, instr(node, ' ') - 1) as kind,
           substr(node, instr(node, ' ') + 1) as key
    from nodes
)
select
    p.node,
    p.steps,
    p.kind,
    case p.kind when 'collection' then p.key else cast(p.key as integer) end as key,
    case p.kind when 'run' then r.kind || ' ' || r.id when 'space' then s.name else p.key end as title,
    case p.kind
        when 'run' then coalesce(
            m.name,
            case r.kind
                when 'cluster' then json_extract(r.counts_json, '$.clusters') || ' clusters'
                when 'project' then json_extract(r.parameters_json, '$.method')
                when 'evaluate' then coalesce(json_extract(r.parameters_json, '$.label'),
                                              json_extract(r.parameters_json, '$.target'))
                when 'label' then json_extract(r.parameters_json, '$.method')
            end,
            substr(r.started_at, 1, 10)
        )
        when 'space' then s.dimensions || ' dimensions, ' || s.metric
        else 'collection'
    end as detail,
    r.status,
    (select json_group_array(e.source) from edges e
     where e.target = p.node and e.source in (select node from nodes)) as sources_json
from parts p
left join runs r on p.kind = 'run' and r.id = cast(p.key as integer)
left join models m on m.id = r.model_id
left join spaces s on p.kind = 'space' and s.id = cast(p.key as integer)
order by p.steps, p.kind, cast(p.key as integer) desc, p.key
