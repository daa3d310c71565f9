select m.item_id, case when m.cluster_id is null then -1 else c.label end
from memberships m
left join clusters c on c.id = m.cluster_id and c.run_id = m.run_id and c.level = m.level
where m.run_id = ? and m.level = ?
order by m.item_id
