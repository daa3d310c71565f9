-- A selection, new or made again: in the place of the one that had its name.
insert into selections (name, how, sql, note) values (:name, :how, :sql, :note)
on conflict (name) do update set
    how = excluded.how,
    sql = excluded.sql,
    note = excluded.note,
    polygon_json = null,
    projection_run_id = null,
    created_at = strftime('%Y-%m-%dT%H:%M:%fZ', 'now')
returning id
