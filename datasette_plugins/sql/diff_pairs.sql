-- Each comparable run with the one before it that is most like it: of the same kind, over the same space
select
    (select max(o.id) from runs o
     where o.kind = r.kind and o.status = 'finished' and o.id < r.id
       and (r.kind = 'detect' or exists (
           select 1 from run_inputs x join run_inputs y on y.space_id = x.space_id
           where x.run_id = r.id and y.run_id = o.id))) as run_a,
    r.id as run_b,
    r.kind,
    (select group_concat(i.name, ', ') from run_inputs i where i.run_id = r.id and i.kind = 'space') as spaces
from runs r
where r.kind in ('cluster', 'evaluate', 'detect') and r.status = 'finished'
  and run_a is not null
order by r.id desc
limit :limit
