-- exemplars of clusters
-- of clusters
-- The item that stands for a cluster is one of its members.
select 'item ' || c.exemplar_item_id || ' stands for cluster ' || c.label || ' of level ' || c.level
    || ' of run ' || c.run_id || ', and is no member', c.run_id
from clusters c
where c.exemplar_item_id is not null
    and not exists (select 1 from memberships m
                    where m.run_id = c.run_id and m.level = c.level
                        and m.item_id = c.exemplar_item_id and m.cluster_id = c.id)
