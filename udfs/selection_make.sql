-- A selection, new or made again: in the place of the one that had its name.
insert into selections (name, how, sql, note, polygon_json, projection_run_id)
values (:name, :how, :sql, :note, :polygon_json, :projection_run_id)
on conflict (name) do update set
    how = excluded.how,
    sql = excluded.sql,
    note = excluded.note,
    polygon_json = excluded.polygon_json,
    projection_run_id = excluded.projection_run_id,
    created_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
returning id
