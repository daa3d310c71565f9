-- The items of a map that lie within a polygon: from each, a ray to the right crosses its edges an odd number of times
with
corners as materialized (
    select key as n, json_extract(value, '$[0]') as x, json_extract(value, '$[1]') as y
    from json_each(:polygon)
),
edges as materialized (
    select a.x as from_x, a.y as from_y, b.x as to_x, b.y as to_y
    from corners a
    join corners b on b.n = (a.n + 1) % (select count(*) from corners)
    where a.y <> b.y
),
box as materialized (
    select min(x) as x_min, max(x) as x_max, min(y) as y_min, max(y) as y_max from corners
)
select p.item_id
from projection_points p
join box on p.x between box.x_min and box.x_max and p.y between box.y_min and box.y_max
where p.run_id = :run
  and (
      select count(*)
      from edges e
      where (e.from_y > p.y) <> (e.to_y > p.y)
        and p.x < e.from_x + (e.to_x - e.from_x) * (p.y - e.from_y) / (e.to_y - e.from_y)
  ) % 2 = 1
order by p.item_id
