insert into llm_responses (
    run_id, request_sha256, model, options_json, system, prompt, schema_json, attachments_json,
    response, prompt_tokens, completion_tokens, duration_ms, is_cached
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
