-- Every stored distance between two items: neighbour graphs, and a detector's loss distances. Only of runs
-- that have finished: half a graph is none.
create view distances as
select n.run_id, 'neighbor' as kind, n.item_id, n.neighbor_id as other_item_id,
       null as component, n.distance, n.rank
from neighbors n
join runs r on r.id = n.run_id and r.status = 'finished'
union all
select l.run_id, 'loss', l.target_item_id, l.image_item_id, l.component, l.distance, null
from loss_distances l
join runs r on r.id = l.run_id and r.status = 'finished';
