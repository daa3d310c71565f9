-- What clusters fall into, all the way down. One that passes unsplit to the next level is one cluster.
with recursive tree (root_id, id, level, label, size, depth, is_split) as (
    select c.id, c.id, c.level, c.label, c.size, 0, 0
    from clusters c
    where c.id in (select value from json_each(:clusters))
    union all
    select t.root_id, c.id, c.level, c.label, c.size, t.depth + (c.size <> t.size), c.size <> t.size
    from tree t
    join clusters c on c.parent_id = t.id and c.level > t.level
    order by 6 desc, 5 desc, 4  -- each followed by what it falls into
)
select
    tree.root_id,
    tree.id as cluster_id,
    tree.depth,
    tree.level,
    tree.label,
    tree.size,
    (select n.name from cluster_labels n where n.cluster_id = tree.id order by n.id desc limit 1) as name
from tree
where tree.is_split
limit :limit
