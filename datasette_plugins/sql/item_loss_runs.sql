-- The loss distances that an item is part of: their runs, the newest first, and their components
select r.id as run_id, m.name as model, c.value as component
from runs r
left join models m on m.id = r.model_id
join json_each(r.parameters_json, '$.components') c on c.type = 'text'
where r.kind = 'loss-distance' and r.status = 'finished'
  and (exists (select 1 from loss_distances d where d.run_id = r.id and d.image_item_id = :item)
       or exists (select 1 from loss_distances d where d.run_id = r.id and d.target_item_id = :item))
order by r.id desc, c.key
