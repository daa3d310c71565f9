-- The newest map of the space that a clustering is of, or of any space that has its items
select r.id as run_id
from runs r
where exists (
    select 1
    from clusters c
    join projection_points p on p.run_id = r.id and p.item_id = c.exemplar_item_id
    where c.run_id = :run
)
order by exists (
    select 1
    from run_inputs i
    join run_inputs own on own.kind = 'space' and own.name = i.name and own.run_id = :run
    where i.run_id = r.id and i.kind = 'space'
) desc, r.id desc
limit 1
