-- The members of a cluster, the surest first; cluster NULL is the noise
select i.id, i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text, m.probability, m.outlier_score, m.is_assigned
from memberships m
left join clusters c on c.id = m.cluster_id
join items i on i.id = m.item_id
where m.run_id = :run and m.level = :level and c.label is :cluster
order by m.probability desc, i.id
limit :limit offset :offset
