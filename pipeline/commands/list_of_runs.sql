select r.id, r.kind, coalesce(m.name, '') as model,
       coalesce((select group_concat(i.name, ', ') from run_inputs i where i.run_id = r.id), '')
           as inputs,
       r.status, r.seed, r.counts_json, round(r.duration_ms / 1000, 2) as seconds, r.started_at
from runs r left join models m on m.id = r.model_id
order by r.id
