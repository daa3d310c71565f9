/* The clusters of a run as a tree, each followed by those it falls into */
with recursive tree (id, level, label, size, exemplar_item_id, share_of_parent, path, place) as (
    select id, level, label, size, exemplar_item_id, null, cast(label as text), printf('%010d', label)
    from clusters
    where run_id = :run and parent_id is null
    union all
    select
        c.id,
        c.level,
        c.label,
        c.size,
        c.exemplar_item_id,
        round(1.0 * c.size / t.size, 4),
        t.path || ' > ' || c.label,
        t.place || printf('%010d', c.label)
    from tree t
    join clusters c on c.parent_id = t.id and c.level > t.level
)
select
    level,
    label as cluster,
    path,
    (select l.name from cluster_labels l where l.cluster_id = tree.id order by l.id desc limit 1) as name,
    size,
    share_of_parent,
    exemplar_item_id
from tree
order by place
