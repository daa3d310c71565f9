-- The bytes of an index that serves, but for the part with the row ids.
select c.part, c.data
from vector_indexes x
join vector_index_chunks c on c.index_id = x.id
where x.run_id = :run and x.is_ready and c.part <> :rows
order by c.part, c.chunk_number
