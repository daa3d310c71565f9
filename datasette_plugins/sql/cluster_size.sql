-- How many belong to a cluster, or to a level's noise where :cluster is NULL
select count(*) as items, sum(m.is_assigned) as assigned, avg(m.probability) as mean_probability
from memberships m
where m.run_id = :run and m.level = :level
  and m.cluster_id is (select c.id from clusters c
                       where c.run_id = :run and c.level = :level and c.label = :cluster)
