-- sizes of clusters
-- of clusters
-- A cluster's size counts its members, not those assigned afterwards.
select 'cluster ' || c.label || ' of level ' || c.level || ' of run ' || c.run_id || ' says ' || c.size
    || ' members, and has ' || count(m.item_id), c.run_id
from clusters c
left join memberships m on m.cluster_id = c.id and not m.is_assigned
group by c.id
having count(m.item_id) <> c.size
