-- The items of one kind that the space still lacks, in item order. Left out are items whose content
-- the space's model could do nothing with (stage embed) since the space was made: content never
-- changes, so they would fail again. Items whose file could not be read are tried again.
select items.id
from items
where items.kind = :kind
  and (:collection is null or items.collection = :collection)
  and not exists (
      select 1 from vectors where vectors.space_id = :space_id and vectors.item_id = items.id
  )
  and not exists (
      select 1
      from item_errors
      join runs on runs.id = item_errors.run_id
      where item_errors.item_id = items.id
        and item_errors.stage = 'embed'
        and runs.kind = 'embed'
        and runs.id >= (select run_id from spaces where spaces.id = :space_id)
        and json_extract(runs.parameters_json, '$.space') = :space
  )
order by items.id
