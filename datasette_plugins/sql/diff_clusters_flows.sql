-- How many items went from which cluster of a run to which of another; NULL is noise
select a.label as cluster_a, b.label as cluster_b, sum(pairs.n) as items
from (
    select x.cluster_id as id_a, y.cluster_id as id_b, count(*) as n
    from memberships x
    join memberships y on y.run_id = :run_b and y.level = :level_b and y.item_id = x.item_id
    where x.run_id = :run_a and x.level = :level_a
    group by x.cluster_id, y.cluster_id
) pairs
left join clusters a on a.id = pairs.id_a
left join clusters b on b.id = pairs.id_b
group by 1, 2
order by items desc, 1, 2
