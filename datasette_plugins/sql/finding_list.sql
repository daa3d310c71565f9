-- Findings of one kind, the surest first, their evidence and what a person has decided
select
    f.id, f.kind, f.item_id, f.other_item_id, f.score, f.evidence_json, f.decision, f.decided_at
from findings f
where f.run_id = :run
  and f.kind = :kind
  and case :decision
      when 'undecided' then f.decision is null
      when 'keep' then f.decision is 'keep'
      when 'dismiss' then f.decision is 'dismiss'
      else true
  end
  -- Behind the one that a page ended with: a number of rows would slip while some are decided on.
  and (cast(:after as integer) = 0 or (ifnull(-f.score, 9e999), f.id) > (
      select ifnull(-a.score, 9e999), a.id from findings a where a.id = cast(:after as integer)
  ))
order by ifnull(-f.score, 9e999), f.id
limit :limit
