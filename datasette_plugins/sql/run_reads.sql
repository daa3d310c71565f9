-- What a run read, and whether that is still what it was
select
    i.kind,
    i.name,
    i.input_run_id,
    r.kind as input_run_kind,
    i.space_id,
    i.rows,
    i.generation,
    i.sha256,
    case
        when i.kind = 'run' then iif(r.id is null, 'deleted', 'unchanged')
        when i.kind <> 'space' then null
        when s.id is null then 'deleted'
        when i.generation is s.generation and i.generation_token is s.generation_token then 'unchanged'
        else 'changed since'
    end as state,
    iif(s.name <> i.name, s.name, null) as name_now
from run_inputs i
left join spaces s on s.id = i.space_id
left join runs r on r.id = i.input_run_id
where i.run_id = :run
order by i.id
