-- One run
select
    r.id as run_id,
    r.kind,
    r.status,
    m.name as model,
    coalesce(
        (select max(i.name) from run_inputs i where i.run_id = r.id and i.kind = 'space'),
        json_extract(r.parameters_json, '$.component') || ' losses of run '
        || json_extract(r.parameters_json, '$.loss_distance_run')
    ) as space,
    (select group_concat(p.key || ' ' || ifnull(p.value, 'null'), ', ')
     from json_each(r.parameters_json) p) as parameters,
    r.seed,
    r.finished_at
from runs r
left join models m on m.id = r.model_id
where r.id = :run
