-- The items that left their cluster between two runs; move '': however they did
select
    m.id, m.move, m.cluster_a, m.cluster_b,
    i.kind, i.sha256, i.width < 100 as is_tiny, substr(i.content, 1, 160) as text
from cluster_moves(
    cast(:run_a as integer), cast(:run_b as integer),
    cast(:level_a as integer), cast(:level_b as integer)
) m
join items i on i.id = m.id
where :move in ('', m.move)
order by m.cluster_a, m.cluster_b, m.id
limit :limit offset :offset
