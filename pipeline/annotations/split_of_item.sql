insert into item_labels (item_id, name, value, source) values (?, 'split', ?, ?)
on conflict (item_id, name) do update set value = excluded.value where source = excluded.source
