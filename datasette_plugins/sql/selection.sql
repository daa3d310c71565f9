-- One selection, and the runs that were limited to it
select
    s.id as selection_id,
    s.name,
    s.how,
    s.sql,
    s.note,
    s.polygon_json,
    s.projection_run_id,
    s.created_at,
    (select count(*) from selection_items i where i.selection_id = s.id) as items,
    (select max(i.name) from run_inputs i
     where i.run_id = s.projection_run_id and i.kind = 'space') as space,
    (select json_group_array(r.id) from runs r
     where r.parameters_json ->> '$.within' = s.name and r.status = 'finished') as runs_json
from selections s
where s.id = :selection
