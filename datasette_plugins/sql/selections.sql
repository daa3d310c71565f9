-- Selections, the newest first: named sets of items, with a few of them
select
    s.id as selection_id,
    s.name,
    s.how,
    s.sql,
    s.note,
    s.projection_run_id,
    s.created_at,
    (select count(*) from selection_items i where i.selection_id = s.id) as items,
    (select json_group_array(json_object(
        'id', shown.id, 'kind', shown.kind, 'is_tiny', shown.is_tiny, 'text', shown.text,
        'sha256', shown.sha256))
     from (select i.id, i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 80) as text, i.sha256
           from selection_items c join items i on i.id = c.item_id
           where c.selection_id = s.id order by c.item_id limit 8) shown) as some_json
from selections s
order by s.created_at desc, s.id desc
limit :limit
