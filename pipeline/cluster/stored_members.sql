-- Who belongs where by a clustering run, as `MemberRow` has it, without those assigned later.
select m.level, m.item_id, c.label, m.probability, m.outlier_score, m.core_distance
from memberships m
left join clusters c on c.id = m.cluster_id
where m.run_id = :run and m.is_assigned = 0
order by m.level, m.item_id
