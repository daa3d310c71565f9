/* What a run read, and whether that is still what it was */
select
    i.kind,
    i.name,
    i.input_run_id,
    i.rows,
    i.generation,
    s.generation as generation_now,
    case
        when i.kind <> 'space' then null
        when s.id is null then 'deleted'
        when i.generation is s.generation and i.generation_token is s.generation_token then 'unchanged'
        else 'changed'
    end as state
from run_inputs i
left join spaces s on s.id = i.space_id
where i.run_id = :run
order by i.id
