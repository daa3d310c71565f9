-- The items that left their cluster between two runs
select m.id as item_id, m.move, m.cluster_a, m.cluster_b, i.uri, substr(i.content, 1, 200) as text
from cluster_moves(:run_a, :run_b, :level_a, :level_b) m
join items i on i.id = m.id
