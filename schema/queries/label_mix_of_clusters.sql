/* Which labels each cluster is made of; no cluster means noise */
select
    m.level,
    c.label as cluster,
    l.value as label,
    count(*) as items,
    round(1.0 * count(*) / sum(count(*)) over (partition by m.level, c.label), 4) as share_of_cluster
from memberships m
left join clusters c on c.id = m.cluster_id
join item_labels l on l.item_id = m.item_id
where m.run_id = :run and l.name = :label
group by m.level, c.label, l.value
order by m.level, c.label is null, c.label, items desc, l.value
