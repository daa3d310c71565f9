select m.item_id, coalesce(c.label, -1)
from memberships m left join clusters c on c.id = m.cluster_id
where m.run_id = ? and m.level = 1 and m.is_assigned = 0
order by m.item_id
