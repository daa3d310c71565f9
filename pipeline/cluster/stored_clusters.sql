-- The clusters that a run found, as `ClusterRow` has them.
select
    c.level, c.label, p.label as parent, c.size, c.centroid, c.exemplar_item_id, c.birth_lambda,
    p.level as parent_level, c.max_lambda
from clusters c
left join clusters p on p.id = c.parent_id
where c.run_id = :run
order by c.level, c.label
