-- One run, all that it recorded
select
    r.id as run_id,
    r.kind,
    r.status,
    r.error,
    r.seed,
    r.device,
    r.process,
    r.started_at,
    r.finished_at,
    r.duration_ms,
    r.result_sha256,
    r.parent_run_id,
    p.kind as parent_kind,
    m.name as model,
    m.family,
    m.licence,
    m.checkpoint_sha256,
    r.counts_json,
    r.timings_json,
    r.versions_json,
    (select max(id) from runs where id < r.id) as previous_id,
    (select min(id) from runs where id > r.id) as next_id
from runs r
left join models m on m.id = r.model_id
left join runs p on p.id = r.parent_run_id
where r.id = :run
