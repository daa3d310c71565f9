-- The ready index of these very vectors, if there is one.
select id, run_id, parameters_json, n, bytes, build_ms, recall_json
from vector_indexes
where space_id = :space and engine = :engine and is_ready and seed = :seed
    and generation = :generation and generation_token = :generation_token
