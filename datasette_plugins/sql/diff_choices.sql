-- The finished runs that can be compared, the newest first: clusterings, evaluations and detector runs
select
    r.id as run_id,
    r.kind,
    m.name as model,
    (select group_concat(i.name, ', ') from run_inputs i where i.run_id = r.id and i.kind = 'space') as spaces,
    coalesce(json_extract(r.parameters_json, '$.label'), json_extract(r.parameters_json, '$.target'))
        as predicted,
    json_extract(r.counts_json, '$.clusters') as clusters,
    r.finished_at
from runs r
left join models m on m.id = r.model_id
where r.kind in ('cluster', 'evaluate', 'detect') and r.status = 'finished'
order by r.id desc
limit :limit
