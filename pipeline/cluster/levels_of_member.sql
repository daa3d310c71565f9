-- The clusters of an item of a clustering run, from the coarsest on.
select m.level, c.label
from memberships m indexed by memberships_item
left join clusters c on c.id = m.cluster_id
where m.run_id = :run and m.item_id = :member
order by m.level
