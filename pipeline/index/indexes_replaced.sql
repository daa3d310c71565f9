-- The indexes whose place this one takes. Of vec0 there is one table a space, ready or not.
select o.id
from vector_indexes o
join vector_indexes n on n.space_id = o.space_id and n.engine = o.engine
where n.id = :index and o.id <> n.id and (o.is_ready or o.engine = 'vec0')
