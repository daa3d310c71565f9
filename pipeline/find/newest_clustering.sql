-- The newest finished clustering of a space that measured how far out its items are.
select r.id
from runs r
join run_inputs i on i.run_id = r.id and i.kind = 'space'
where r.kind = 'cluster' and r.status = 'finished' and i.space_id = :space_id
    and exists (
        select 1 from memberships m
        where m.run_id = r.id and m.level = 1 and m.outlier_score is not null
    )
order by r.id desc
limit 1
