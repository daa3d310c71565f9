/* The items that fit least where a clustering put them */
select
    m.item_id,
    m.outlier_score,
    c.label as cluster,
    m.probability,
    (select group_concat(l.name || ' ' || l.value, ', ') from item_labels l where l.item_id = m.item_id)
        as labels,
    i.uri,
    substr(i.content, 1, 200) as text
from memberships m
left join clusters c on c.id = m.cluster_id
join items i on i.id = m.item_id
where m.run_id = :run and m.level = :level and m.outlier_score is not null
order by m.outlier_score desc, m.item_id
limit 200
