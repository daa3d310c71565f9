-- parents of clusters
-- of clusters
-- A parent is a cluster of the same run, one level above, and holds all members of its child.
select 'cluster ' || c.label || ' of level ' || c.level || ' of run ' || c.run_id
    || ' has its parent at level ' || p.level || ' of run ' || p.run_id, c.run_id
from clusters c
join clusters p on p.id = c.parent_id
where p.run_id <> c.run_id or p.level <> c.level - 1
union all
select 'item ' || m.item_id || ' of run ' || m.run_id || ' is in a cluster of level ' || m.level
    || ' and not in its parent', m.run_id
from memberships m
join clusters c on c.id = m.cluster_id and c.parent_id is not null
left join memberships above
    on above.run_id = m.run_id and above.level = m.level - 1 and above.item_id = m.item_id
where above.cluster_id is not c.parent_id
