-- Findings of a run with their decisions and evidence, the surest of each kind first
select
    f.id, f.kind, f.item_id, f.other_item_id, f.score, f.decision, f.decided_at,
    i.uri, o.uri as other_uri, f.evidence_json
from findings f
join items i on i.id = f.item_id
left join items o on o.id = f.other_item_id
where f.run_id = :run
  and (:kind = '' or f.kind = :kind)
  and case :decision
      when 'undecided' then f.decision is null
      when 'keep' then f.decision is 'keep'
      when 'dismiss' then f.decision is 'dismiss'
      else true
  end
order by f.kind, f.score desc, f.item_id, ifnull(f.other_item_id, -1)
