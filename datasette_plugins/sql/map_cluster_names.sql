-- The names of a level's clusters, the largest first; the newest name counts
select
    c.label as code,
    ifnull((select l.name from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1),
           'cluster ' || c.label) as name
from clusters c
where c.run_id = :by_run and c.level = :level
order by c.size desc, c.label
