-- Clusterings: how many clusters each run found, and how much it left as noise
select
    c.run_id,
    c.level,
    c.space,
    c.clusters,
    c.items,
    c.noise,
    c.noise_share,
    c.assigned,
    c.finished_at
from clustering_results c
order by c.run_id desc, c.level
