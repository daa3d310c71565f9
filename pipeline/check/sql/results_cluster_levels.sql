-- clusters of memberships
-- of memberships
-- The cluster that an item is in belongs to the same run and level.
select 'item ' || m.item_id || ' is at level ' || m.level || ' of run ' || m.run_id
    || ' in a cluster of level ' || c.level || ' of run ' || c.run_id, m.run_id
from memberships m
join clusters c on c.id = m.cluster_id
where c.run_id <> m.run_id or c.level <> m.level
