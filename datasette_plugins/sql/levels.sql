-- The levels of a clustering run, noise included
select
    m.level,
    (select count(*) from clusters c where c.run_id = m.run_id and c.level = m.level) as clusters,
    count(*) as items,
    sum(m.cluster_id is null) as noise,
    1.0 * sum(m.cluster_id is null) / count(*) as noise_share,
    sum(m.is_assigned) as assigned
from memberships m
where m.run_id = :run
group by m.level
order by m.level
