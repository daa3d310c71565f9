-- What there is to read of items: the beginning of a text; the labels of an image and the classes that the
-- newest run of each detector saw in it. :items and :names are JSON arrays; :names is NULL for all labels.
with detector_runs as materialized (
    select run_id from current_runs where kind = 'detect'
)
select
    i.id,
    substr(i.content, 1, :characters) as text,
    length(i.content) > :characters as is_cut,
    case when i.kind = 'image' then (
        select json_group_array(json_array(l.name, l.value))
        from item_labels l
        where l.item_id = i.id
          and (:names is null or l.name in (select value from json_each(:names)))
    ) end as labels_json,
    case when i.kind = 'image' then (
        select json_group_array(distinct coalesce(p.class_name, 'class ' || p.class_id))
        from predictions p
        where p.item_id = i.id and p.run_id in (select run_id from detector_runs)
    ) end as classes_json
from items i
where i.id in (select value from json_each(:items))
order by i.id
