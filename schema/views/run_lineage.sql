-- Each run and every run it stands on, at every depth: through runs it read, spaces it read and its parent.
create view run_lineage as
with recursive
direct(run_id, ancestor_run_id, relation) as (
    select run_id, input_run_id, 'input' from run_inputs where input_run_id is not null
    union
    select i.run_id, w.id, 'space ' || i.name
    from run_inputs i
    join runs w on w.id <> i.run_id
         and exists (select 1 from vectors v where v.run_id = w.id and v.space_id = i.space_id)
    where i.space_id is not null
    union
    select id, parent_run_id, 'parent' from runs where parent_run_id is not null
),
walk(run_id, ancestor_run_id, relation, depth) as (
    select run_id, ancestor_run_id, relation, 1 from direct
    union
    select w.run_id, d.ancestor_run_id, d.relation, w.depth + 1
    from walk w join direct d on d.run_id = w.ancestor_run_id
    where w.depth < 100
)
select w.run_id, r.kind, w.ancestor_run_id, a.kind as ancestor_kind, w.relation, min(w.depth) as depth
from walk w
join runs r on r.id = w.run_id
join runs a on a.id = w.ancestor_run_id
group by w.run_id, w.ancestor_run_id;
