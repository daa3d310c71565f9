-- The points of a map with their labels: -2 is an item without this label
with legend as (
    select l.value, row_number() over (order by count(*) desc, l.value) - 1 as code
    from item_labels l
    where l.name = :name
      and exists (select 1 from projection_points p where p.run_id = :run and p.item_id = l.item_id)
    group by l.value
)
select p.x, p.y, p.item_id, ifnull(legend.code, -2) as code
from projection_points p
left join item_labels l on l.item_id = p.item_id and l.name = :name
left join legend on legend.value = l.value
where p.run_id = :run
  and ((p.item_id & 4294967295) * 1640531527 & 4294967295) < :keep_below
order by p.item_id
