-- How the index that a run made is searched, and what it finds, by k.
select
    cast(s.key as integer) as k, s.value ->> 'effort' as effort, s.value ->> 'candidates' as candidates,
    r.value as recall
from vector_indexes x, json_each(x.parameters_json, '$.search') s
left join json_each(x.recall_json) r on r.key = s.key
where x.run_id = ? and x.is_ready
order by 1
