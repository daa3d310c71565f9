select
    s.name as space,
    x.engine,
    x.n,
    x.bytes,
    json_extract(x.recall_json, '$."1"') as recall_at_1,
    json_extract(x.recall_json, '$."10"') as recall_at_10,
    json_extract(x.recall_json, '$."100"') as recall_at_100,
    x.min_recall,
    json_extract(x.parameters_json, '$.search."10".effort') as effort_at_10,
    round(x.build_ms / 1000, 2) as seconds,
    x.created_at,
    x.run_id,
    x.id,
    x.generation,
    x.generation_token
from vector_indexes x
join spaces s on s.id = x.space_id
where x.is_ready
order by s.name, x.id
