-- One cluster of a run
select
    c.id as cluster_id,
    c.size,
    (select l.name from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1) as name,
    (select l.description from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1)
        as description
from clusters c
where c.run_id = :run and c.level = :level and c.label = :cluster
