-- The values of a label, the commonest first; the code is the place in this list
select
    row_number() over (order by count(*) desc, l.value) - 1 as code,
    l.value as name,
    count(*) as items
from item_labels l
where l.name = :name
  and exists (select 1 from projection_points p where p.run_id = :run and p.item_id = l.item_id)
group by l.value
order by code
