-- One evaluation: what was predicted of how many items, and how they were dealt out
select
    r.id as run_id,
    json_extract(r.parameters_json, '$.label') as label,
    json_extract(r.parameters_json, '$.target') as target,
    json_extract(r.parameters_json, '$.folds') as folds,
    json_extract(r.parameters_json, '$.group_by') as group_by,
    json_extract(r.parameters_json, '$.within') as within,
    json_extract(r.parameters_json, '$.temperature') as temperature,
    json_extract(r.parameters_json, '$.detect_run') as detect_run,
    json_extract(r.counts_json, '$.items') as items,
    r.seed,
    r.status,
    r.finished_at
from runs r
where r.id = :run and r.kind = 'evaluate'
