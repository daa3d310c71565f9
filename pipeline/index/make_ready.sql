update vector_indexes
set is_ready = 1,
    parameters_json = :parameters,
    n = :n,
    recall_json = :recall,
    min_recall = :min_recall,
    build_ms = :build_ms,
    bytes = :bytes,
    head_sha256 = :head_sha256,
    sha256 = :sha256
where id = :index
