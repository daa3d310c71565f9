/* The items of a cluster, the surest first */
select
    m.item_id,
    m.probability,
    m.outlier_score,
    m.is_assigned,
    (select group_concat(l.name || ' ' || l.value, ', ') from item_labels l where l.item_id = m.item_id)
        as labels,
    i.uri,
    substr(i.content, 1, 200) as text
from clusters c
join memberships m on m.cluster_id = c.id
join items i on i.id = m.item_id
where c.run_id = :run and c.level = :level and c.label = :cluster
order by m.probability desc, m.item_id
