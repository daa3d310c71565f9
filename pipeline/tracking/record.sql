-- Everything that is recorded of a run
select
    r.id,
    r.kind,
    m.name as model,
    r.parent_run_id,
    r.parameters_json,
    r.seed,
    r.versions_json,
    r.device,
    r.status,
    r.counts_json,
    r.timings_json,
    r.result_sha256,
    r.started_at,
    r.finished_at,
    r.duration_ms,
    (select value from metadata where key = 'database_id') as database_id
from runs r
left join models m on m.id = r.model_id
where r.id = :run
