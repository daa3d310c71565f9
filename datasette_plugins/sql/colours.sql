-- By what the points of a map can be coloured: clusterings (of its own space first), labels, scores
with
clusterings as (
    select
        r.id as run_id,
        ifnull(l.level, 1) as level,  -- a run that found only noise has no clusters to tell its level
        (select max(i.name) from run_inputs i where i.run_id = r.id and i.kind = 'space') as space
    from runs r
    left join (select distinct run_id, level from clusters) l on l.run_id = r.id
    where exists (select 1 from memberships m where m.run_id = r.id)
)
select 'cluster' as kind, run_id, level, null as name, space, space is :space as is_own_space
from clusterings
union all
select 'outlier', run_id, level, null, space, space is :space
from clusterings c
where exists (select 1 from memberships m
              where m.run_id = c.run_id and m.level = c.level and m.outlier_score is not null)
union all
select 'label', null, null, l.name, null, 1
from (select distinct name from item_labels) l
order by is_own_space desc, run_id desc, level, name
