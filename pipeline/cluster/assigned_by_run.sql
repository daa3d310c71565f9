-- What a run assigned.
select m.item_id, m.level, c.label, m.probability
from memberships m
left join clusters c on c.id = m.cluster_id
where m.assigned_by_run_id = ?
order by m.item_id, m.level
