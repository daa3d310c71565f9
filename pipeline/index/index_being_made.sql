-- The running run that makes an index of this engine for this space.
select x.run_id
from vector_indexes x
join runs r on r.id = x.run_id
where x.space_id = :space and x.engine = :engine and not x.is_ready and r.status = 'running'
