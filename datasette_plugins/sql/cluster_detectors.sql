-- Detectors that have judged a clustering's items, the newest first: asked of the clusters' exemplars
select r.id as run_id, d.name as model, r.finished_at
from runs r
left join models d on d.id = r.model_id
where r.kind = 'detect' and r.status = 'finished'
  and exists (
      select 1
      from clusters c
      join image_metrics j on j.run_id = r.id and j.item_id = c.exemplar_item_id
      where c.run_id = :run
  )
order by r.id desc
limit 20
