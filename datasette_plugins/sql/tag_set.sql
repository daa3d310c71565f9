-- Gives items a tag, or another value of one
insert into item_labels (item_id, name, value, source)
select j.value, :name, :value, 'hand'
from json_each(:items) j
where true
on conflict (item_id, name) do update set value = excluded.value
