insert into annotated_items (item_id, run_id, source, truth_sha256) values (?, ?, ?, ?)
on conflict (item_id) do update set
    run_id = excluded.run_id, source = excluded.source, truth_sha256 = excluded.truth_sha256
