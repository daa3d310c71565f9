-- The finished runs that a run can be compared with, those that read the same space first
select
    r.id as run_id,
    (select group_concat(i.name, ', ') from run_inputs i where i.run_id = r.id and i.kind = 'space') as spaces,
    m.name as model,
    r.finished_at,
    exists (
        select 1 from run_inputs a join run_inputs b on b.space_id = a.space_id
        where a.run_id = r.id and b.run_id = t.id
    ) as reads_the_same
from runs t
join runs r on r.kind = t.kind and r.status = 'finished' and r.id <> t.id
left join models m on m.id = r.model_id
where t.id = :run and t.status = 'finished' and t.kind in ('cluster', 'evaluate', 'detect')
order by reads_the_same desc, abs(r.id - t.id), r.id
limit :limit
