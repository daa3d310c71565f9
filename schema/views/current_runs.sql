-- The newest finished run of each kind, model and input space: what pages and queries mean by "the" run.
-- One over a selection does not take the place of one over all.
create view current_runs as
select id as run_id, kind, model, space, finished_at
from (
    select
        r.id,
        r.kind,
        m.name as model,
        i.name as space,
        r.finished_at,
        row_number() over (
            partition by r.kind, r.model_id, i.name,
                         json_extract(r.parameters_json, '$.method'),
                         json_extract(r.parameters_json, '$.collection'),
                         json_extract(r.parameters_json, '$.within')
            order by r.id desc
        ) as newest
    from runs r
    left join models m on m.id = r.model_id
    left join run_inputs i on i.run_id = r.id and i.kind = 'space'
    where r.status = 'finished' and r.kind <> 'replay'
)
where newest = 1;
