-- The images of which a run still has something to say, in item order: those that no finished run of this
-- model with these settings, nor the run under way, has judged by their present truth, and those that
-- lack a vector in one of the spaces. Left out are those that such a run could not decode or detect in:
-- their bytes never change. A file that could not be read is tried again.
with runs_alike as (
    select id
    from runs
    where id = :run_id
       or (kind = 'detect'
           and status = 'finished'
           and model_id = :model_id
           and json_extract(parameters_json, '$.settings') = json(:settings))
)
select items.id
from items
left join annotated_items truth on truth.item_id = items.id
where items.kind = 'image'
  and (:collection is null or items.collection = :collection)
  and (
      not exists (
          select 1
          from image_metrics m
          where m.item_id = items.id
            and m.run_id in (select id from runs_alike)
            and m.truth_sha256 is truth.truth_sha256
      )
      or exists (
          select 1
          from json_each(:spaces) named
          where not exists (
              select 1
              from vectors
              where vectors.space_id = (select id from spaces where name = named.value)
                and vectors.item_id = items.id
          )
      )
  )
  and not exists (
      select 1
      from item_errors e
      where e.item_id = items.id
        and e.stage in ('decode', 'detect')
        and e.run_id in (select id from runs_alike)
  )
order by items.id
