-- The newest finished clustering of a space as it is now, made in this way.
select r.id
from runs r
join run_inputs i on i.run_id = r.id and i.kind = 'space'
where r.kind = 'cluster'
  and r.status = 'finished'
  and i.space_id = :space_id
  and i.generation = :generation
  and i.generation_token = :generation_token
  and json_extract(r.parameters_json, '$.method') = 'hdbscan'
  and json_extract(r.parameters_json, '$.min_cluster_size') = :min_cluster_size
  and json_extract(r.parameters_json, '$.min_samples') = :min_samples
  and json_extract(r.parameters_json, '$.selection') = :selection
  and json_extract(r.parameters_json, '$.downsample') = 1
  and json_extract(r.parameters_json, '$.epsilon') = 0
  and json_extract(r.parameters_json, '$.within') is null
order by r.id desc
limit 1
