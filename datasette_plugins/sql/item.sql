-- One item
select
    i.id, i.kind, i.collection, i.sha256, i.uri, i.content, i.width, i.height, i.width < 100 as is_tiny,
    i.sequence_number,
    i.run_id, i.created_at, i.metadata_json,
    (select min(n.id) from items n where n.id > i.id) as next_id,
    (select max(n.id) from items n where n.id < i.id) as previous_id
from items i
where i.id = :item
