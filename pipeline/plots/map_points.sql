-- The points of a map, each with its cluster's label (NULL: noise) if the clustering saw the item
select p.x, p.y, c.label, m.item_id is not null as is_member
from projection_points p
left join memberships m
    on m.run_id = :clustering and m.level = :level and m.item_id = p.item_id
left join clusters c on c.id = m.cluster_id
where p.run_id = :map
order by p.item_id
