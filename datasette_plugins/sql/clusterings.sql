-- Clusterings: how many clusters each run found, and how much it left as noise
select
    c.run_id,
    c.level,
    coalesce(c.space, (
        select json_extract(r.parameters_json, '$.component') || ' losses of run '
               || json_extract(r.parameters_json, '$.loss_distance_run')
        from runs r where r.id = c.run_id
    )) as space,
    c.clusters,
    c.items,
    c.noise,
    c.noise_share,
    c.assigned,
    c.finished_at
from clustering_results c
order by c.run_id desc, c.level
