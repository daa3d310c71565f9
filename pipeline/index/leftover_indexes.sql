-- Indexes that are not ready, and whose run no longer works on them.
select x.id, s.name, x.engine, x.run_id
from vector_indexes x
join spaces s on s.id = x.space_id
join runs r on r.id = x.run_id
where not x.is_ready and r.status <> 'running'
order by x.id
