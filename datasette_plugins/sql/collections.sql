-- Collections: how many items each holds, and a few of them
select
    c.collection,
    c.items,
    c.images,
    c.texts,
    c.first_item_id,
    -- In the order of their hashes: as good as drawn by lot, the same each time, and an index has it.
    (select json_group_array(
        json_object('id', s.id, 'kind', s.kind, 'is_tiny', s.is_tiny, 'text', s.text))
     from (select i.id, i.kind, i.width < 100 as is_tiny, substr(i.content, 1, 80) as text
           from items i where i.collection = c.collection order by i.sha256 limit 8) s) as some_json
from (
    select
        collection,
        count(*) as items,
        sum(kind = 'image') as images,
        sum(kind = 'text') as texts,
        min(id) as first_item_id
    from items
    group by collection
) c
order by c.collection
