-- Whether a run gave the same again
select
    r.id as run_id,
    r.status,
    r.started_at,
    json_extract(r.counts_json, '$.same') as is_same,
    json_extract(r.counts_json, '$.different_rows') as different_rows
from runs r
where r.parent_run_id = :run and r.kind = 'replay'
order by r.id desc
limit 20
