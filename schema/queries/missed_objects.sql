/* The annotated objects that a detector did not find, the largest first */
select
    a.item_id,
    a.class_name as class,
    round(100.0 * (a.x_max - a.x_min) * (a.y_max - a.y_min) / (i.width * i.height), 2)
        as percent_of_image,
    a.id as annotation_id,
    i.uri
from annotations a
join items i on i.id = a.item_id
join image_metrics m on m.item_id = a.item_id and m.run_id = :detector
-- Objects that were annotated after the run are not missed: it was not measured against them.
join annotated_items t on t.item_id = a.item_id and t.truth_sha256 = m.truth_sha256
where a.is_crowd = 0
  and a.x_min is not null
  and not exists (
      select 1 from predictions p
      where p.run_id = :detector and p.item_id = a.item_id and p.matched_annotation_id = a.id
  )
order by percent_of_image desc, a.id
limit 200
