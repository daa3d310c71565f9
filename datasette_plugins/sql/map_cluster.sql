-- In which cluster of a level each item is; -1 is noise
select m.item_id, ifnull(c.label, -1) as code
from memberships m
left join clusters c on c.id = m.cluster_id
where m.run_id = :by_run and m.level = :level
order by m.item_id
