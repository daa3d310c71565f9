insert into cluster_labels (
    cluster_id, run_id, name, description, category, strength, method, model, prompt,
    shown_item_ids_json, prompt_tokens, completion_tokens, held_out_precision, keywords_json,
    response_id, held_out_response_id, held_out_recall, held_out_json, held_out_reason
) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)
