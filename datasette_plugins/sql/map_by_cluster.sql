-- The points of a map with their clusters: -1 is noise, -2 an item that the run did not cluster
select
    p.x,
    p.y,
    p.item_id,
    case when c.id is not null then c.label when m.item_id is not null then -1 else -2 end as code
from projection_points p
left join memberships m
    on m.run_id = :by_run and m.level = :level and m.item_id = p.item_id
left join clusters c on c.id = m.cluster_id
where p.run_id = :run
  -- An even sample that is the same each time: multiplying scatters the ids over 32 bits.
  and ((p.item_id & 4294967295) * 1640531527 & 4294967295) < :keep_below
order by p.item_id
