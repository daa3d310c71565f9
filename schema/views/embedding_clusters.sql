-- One row an item, clustering run and level: its cluster's label and newest name, NULL for noise.
create view embedding_clusters as
select
    m.run_id,
    i.name as space,
    m.level,
    m.item_id,
    c.label as cluster,
    (select l.name from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1)
        as cluster_name,
    m.probability,
    m.outlier_score,
    m.is_assigned
from memberships m
left join clusters c on c.id = m.cluster_id
left join run_inputs i on i.run_id = m.run_id and i.kind = 'space';
