-- The newest names of the clusters of two runs, at a level of each
select c.run_id, c.level, c.label,
       (select n.name from cluster_labels n where n.cluster_id = c.id order by n.id desc limit 1) as name
from clusters c
where (c.run_id = :run_a and c.level = :level_a) or (c.run_id = :run_b and c.level = :level_b)
order by c.run_id, c.level, c.label
