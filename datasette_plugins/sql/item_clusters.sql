-- The clusters of an item, in each run: its path from the coarsest level down
select
    m.run_id,
    coalesce((
        select max(i.name) from run_inputs i where i.run_id = m.run_id and i.kind = 'space'
    ), (
        select json_extract(r.parameters_json, '$.component') || ' losses of run '
               || json_extract(r.parameters_json, '$.loss_distance_run')
        from runs r where r.id = m.run_id
    )) as space,
    m.level,
    c.label as cluster,
    (select l.name from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1) as name,
    c.size,
    m.probability,
    m.outlier_score,
    m.is_assigned
from memberships m
left join clusters c on c.id = m.cluster_id
where m.item_id = :item
order by m.run_id desc, m.level
