-- The images that no finished run of this model with these settings has judged by their present truth,
-- in item order. Left out are those that such a run could not decode or detect in: their bytes never
-- change. A file that could not be read is tried again.
with runs_alike as (
    select id
    from runs
    where kind = 'detect'
      and status = 'finished'
      and model_id = :model_id
      and json_extract(parameters_json, '$.settings') = json(:settings)
)
select items.id
from items
left join annotated_items truth on truth.item_id = items.id
where items.kind = 'image'
  and (:collection is null or items.collection = :collection)
  and not exists (
      select 1
      from image_metrics m
      where m.item_id = items.id
        and m.run_id in (select id from runs_alike)
        and m.truth_sha256 is truth.truth_sha256
  )
  and not exists (
      select 1
      from item_errors e
      where e.item_id = items.id
        and e.stage in ('decode', 'detect')
        and e.run_id in (select id from runs_alike)
  )
order by items.id
