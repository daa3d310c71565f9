-- The clusters of a run, with the items that are most surely theirs
select
    c.id as cluster_id,
    c.level,
    c.label,
    p.label as parent,
    (select l.name from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1) as name,
    (select l.description from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1)
        as description,
    c.size,
    (select json_group_array(
        json_object('id', shown.item_id, 'kind', shown.kind, 'is_tiny', shown.is_tiny, 'text', shown.text))
     from (select m.item_id, i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 80) as text
           from memberships m join items i on i.id = m.item_id
           where m.cluster_id = c.id
           order by m.item_id = c.exemplar_item_id desc, m.probability desc, m.item_id
           limit 8) shown) as shown_json
from clusters c
left join clusters p on p.id = c.parent_id
where c.run_id = :run
order by c.level, c.size desc, c.label
limit :limit
