-- A clustering run: what it read, and with which parameters
select
    r.id as run_id,
    coalesce(
        (select max(i.name) from run_inputs i where i.run_id = r.id and i.kind = 'space'),
        json_extract(r.parameters_json, '$.component') || ' losses of run '
        || json_extract(r.parameters_json, '$.loss_distance_run')
    ) as space,
    (select s.name from run_inputs i join spaces s on s.name = i.name
     where i.run_id = r.id and i.kind = 'space' limit 1) as space_that_is_there,
    (select group_concat(p.key || ' ' || p.value, ', ')
     from json_each(r.parameters_json) p
     where p.value is not null and p.key <> 'space') as parameters,
    json_extract(r.parameters_json, '$.method') as method,
    json_extract(r.parameters_json, '$.min_cluster_size') as min_cluster_size,
    json_extract(r.parameters_json, '$.min_samples') as min_samples,
    ifnull(json_extract(r.parameters_json, '$.selection'), 'eom') as selection,
    ifnull(json_extract(r.parameters_json, '$.epsilon'), 0.0) as epsilon,
    ifnull(json_extract(r.parameters_json, '$.downsample'), 1) as downsample,
    json_extract(r.parameters_json, '$.within') as within,
    r.finished_at
from runs r
where r.id = :run
