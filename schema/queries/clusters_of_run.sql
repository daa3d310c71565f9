/* The clusters of a run, noise included */
select
    c.level as level,
    c.label as cluster,
    (select l.name from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1) as name,
    p.label as parent,
    c.size as size,
    round(1.0 * c.size / sum(c.size) over (partition by c.level), 4) as share_of_clustered,
    c.exemplar_item_id
from clusters c
left join clusters p on p.id = c.parent_id
where c.run_id = :run
union all
select level, null, 'noise', null, count(*), null, null
from memberships
where run_id = :run and cluster_id is null
group by level
order by level, size desc
