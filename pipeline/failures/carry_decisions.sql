-- Gives the findings of :run what a person decided last about the same kind, item and detector.
with earlier as (
    select
        f.kind, f.item_id, f.decision, f.decided_at,
        row_number() over (partition by f.kind, f.item_id order by f.run_id desc) as newest
    from findings f
    join runs r on r.id = f.run_id
    where r.kind = 'failures'
      and r.model_id is (select model_id from runs where id = :run)
      and f.run_id < :run
      and f.decision is not null
)
update findings
set decision = earlier.decision, decided_at = earlier.decided_at
from earlier
where findings.run_id = :run
  and earlier.newest = 1
  and earlier.kind = findings.kind
  and earlier.item_id = findings.item_id
