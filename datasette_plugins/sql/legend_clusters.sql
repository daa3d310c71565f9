-- The names of a level's clusters
select
    c.label as code,
    ifnull((select l.name from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1),
           'cluster ' || c.label) as name,
    c.size as items
from clusters c
where c.run_id = :by_run and c.level = :level
order by c.size desc, c.label
