-- The outlier scores of a clustering's own items at its first level, by item.
select m.item_id, m.outlier_score, c.label as cluster
from memberships m
left join clusters c on c.id = m.cluster_id
where m.run_id = :run and m.level = 1 and m.is_assigned = 0 and m.outlier_score is not null
order by m.item_id
