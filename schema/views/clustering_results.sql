-- One row a clustering run and level: what was clustered, how many groups, how much noise.
create view clustering_results as
select
    m.run_id,
    m.level,
    max(i.name) as space,
    r.parameters_json,
    count(distinct m.cluster_id) as clusters,
    count(*) as items,
    sum(m.cluster_id is null) as noise,
    round(1.0 * sum(m.cluster_id is null) / count(*), 4) as noise_share,
    sum(m.is_assigned) as assigned,
    r.finished_at
from memberships m
join runs r on r.id = m.run_id
left join run_inputs i on i.run_id = m.run_id and i.kind = 'space'
group by m.run_id, m.level;
