-- The places of some items in a level of a clustering, each cluster with its newest name
select
    m.item_id,
    m.cluster_id is not null and c.id is null as is_damaged,
    c.label,
    (select l.name from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1) as name,
    m.probability,
    m.outlier_score,
    m.is_assigned
from memberships m
left join clusters c on c.id = m.cluster_id and c.run_id = m.run_id and c.level = m.level
where m.run_id = :run and m.level = :level and m.item_id in (select value from json_each(:ids))
