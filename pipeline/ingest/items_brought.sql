-- The items that an ingest brought, and whether the database keeps their bytes.
select i.sha256, i.collection, i.sequence_number, l.value as label,
    exists (select 1 from item_images m where m.item_id = i.id) as is_stored, i.metadata_json
from items i
left join item_labels l on l.item_id = i.id and l.name = :label
where i.run_id = :run
order by i.sha256
