-- The clusters of a run, each with its newest name and the label of the cluster around it
select
    c.id,
    c.level,
    c.label,
    p.label as parent,
    l.name,
    l.description,
    l.category,
    l.strength,
    c.size,
    c.exemplar_item_id,
    c.birth_lambda,
    c.max_lambda
from clusters c
left join clusters p on p.id = c.parent_id
left join cluster_labels l
    on l.id = (select max(newest.id) from cluster_labels newest where newest.cluster_id = c.id)
where c.run_id = :run
order by c.level, c.label
