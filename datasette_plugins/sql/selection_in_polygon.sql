-- The items of a map that lie within a polygon, [[x, y], ...] in the units of the map: from each, a ray
-- to the right crosses its edges an odd number of times. Each edge is filed under the strips of the map,
-- 256 from low to high, that it passes, so that an item is compared with the few edges of its strip.
with recursive
corners as materialized (
    select key as k, cast(json_extract(value, '$[0]') as real) as x,
           cast(json_extract(value, '$[1]') as real) as y
    from json_each(:polygon)
),
box as materialized (
    select min(x) as left, max(x) as right, min(y) as low, max(y) as high,
           256 / (max(y) - min(y)) as strips, count(*) as n
    from corners
),
numbers as (
    select 0 as strip union all select strip + 1 from numbers where strip < 256
),
edges as materialized (
    select cast(numbers.strip as integer) as strip, min(a.y, b.y) as low, max(a.y, b.y) as high,
           (b.x - a.x) / (b.y - a.y) as slope, a.x - a.y * (b.x - a.x) / (b.y - a.y) as start
    from box
    join corners a
    join corners b on b.k = (a.k + 1) % box.n
    join numbers
        on numbers.strip between cast((min(a.y, b.y) - box.low) * box.strips as integer)
                             and cast((max(a.y, b.y) - box.low) * box.strips as integer)
    where a.y <> b.y
)
select p.item_id
from box
cross join projection_points p
cross join edges e
    on e.strip = cast((p.y - box.low) * box.strips as integer)
    and p.y >= e.low and p.y < e.high
    and p.x < e.start + e.slope * p.y
where p.run_id = :run
  and p.x between box.left and box.right
  and p.y between box.low and box.high
group by p.item_id
having count(*) % 2 = 1
order by p.item_id
