-- Every stored distance between two items: neighbour graphs, and a detector's loss distances.
create view distances as
select run_id, 'neighbor' as kind, item_id, neighbor_id as other_item_id,
       null as component, distance, rank
from neighbors
union all
select run_id, 'loss', target_item_id, image_item_id, component, distance, null
from loss_distances;
