-- The members that are most surely a cluster's, its exemplar first
select
    c.id as cluster_id,
    (select json_group_array(
        json_object('id', i.id, 'kind', i.kind, 'sha256', i.sha256, 'is_tiny', i.width < 100,
                    'text', substr(i.content, 1, 160))
        order by i.id = c.exemplar_item_id desc, best.probability desc, i.id)
     from (select m.item_id, m.probability
           from memberships m
           where m.cluster_id = c.id and m.is_assigned = 0
           order by m.item_id = c.exemplar_item_id desc, m.probability desc, m.item_id
           limit 6) best
     join items i on i.id = best.item_id) as exemplars_json
from clusters c
where c.id in (select value from json_each(:clusters))
