-- The clusters around a cluster, the widest first
with recursive above (id, parent_id, level, label, size) as (
    select p.id, p.parent_id, p.level, p.label, p.size
    from clusters c
    join clusters p on p.id = c.parent_id
    where c.id = :cluster_id
    union
    select p.id, p.parent_id, p.level, p.label, p.size
    from above a
    join clusters p on p.id = a.parent_id
)
select
    above.level,
    above.label,
    above.size,
    (select n.name from cluster_labels n where n.cluster_id = above.id order by n.id desc limit 1) as name
from above
order by above.level
