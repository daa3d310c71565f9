-- The finished runs of the same detector with the same settings as :run. A later one only adds images.
select r.id
from runs r
join runs named on named.id = :run
where r.kind = 'detect'
  and r.status = 'finished'
  and r.model_id is named.model_id
  and json_extract(r.parameters_json, '$.settings')
      is json_extract(named.parameters_json, '$.settings')
order by r.id
