-- How many belong to a cluster, or to a level's noise where :cluster is NULL; the mean probability is of those
-- that were clustered, as one of assigned items means something else
select
    count(*) as items,
    sum(m.is_assigned) as assigned,
    avg(m.probability) filter (where not m.is_assigned) as mean_probability
from memberships m
where m.run_id = :run and m.level = :level
  and m.cluster_id is (select c.id from clusters c
                       where c.run_id = :run and c.level = :level and c.label = :cluster)
