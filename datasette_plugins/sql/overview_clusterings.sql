-- The newest clusterings: how many clusters each found, and how much it left as noise
with newest as (
    select r.id, r.parameters_json, r.finished_at
    from runs r
    where exists (select 1 from memberships m where m.run_id = r.id)
    order by r.id desc
    limit :limit
)
select
    n.id as run_id,
    c.level,
    coalesce(
        (select max(i.name) from run_inputs i where i.run_id = n.id and i.kind = 'space'),
        json_extract(n.parameters_json, '$.component') || ' losses of run '
        || json_extract(n.parameters_json, '$.loss_distance_run')
    ) as space,
    (select count(*) from clusters k where k.run_id = n.id and k.level = c.level) as clusters,
    c.items,
    c.noise,
    1.0 * c.noise / c.items as noise_share,
    n.finished_at
from newest n
join (
    select run_id, level, count(*) as items, sum(cluster_id is null) as noise
    from memberships
    where run_id in (select id from newest)
    group by run_id, level
) c on c.run_id = n.id
order by n.id desc, c.level
