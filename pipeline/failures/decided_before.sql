-- What a person has decided about findings of the same detector as that of :run, the latest last.
select f.kind, f.item_id, f.evidence_json, f.decision, f.decided_at
from runs r
join findings f on f.run_id = r.id
where r.kind = 'failures'
  and r.model_id is (select model_id from runs where id = :run)
  and r.id < :run
  and f.decision is not null
order by r.id
