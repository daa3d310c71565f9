-- The runs that stopped on the way to a space's graph (or to that of a space now deleted) and have rows.
select r.id
from runs r
join run_inputs i on i.run_id = r.id and i.kind = 'space'
where r.kind = 'neighbors' and r.status in ('interrupted', 'failed')
  and (i.space_id = :space_id or i.space_id is null)
  and exists (select 1 from neighbors n where n.run_id = r.id)
