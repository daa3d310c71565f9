/* What a run found, the surest first, and what a person has decided on it */
select
    f.id,
    f.kind,
    f.item_id,
    f.other_item_id,
    f.score,
    f.decision,
    i.uri,
    substr(i.content, 1, 200) as text,
    f.evidence_json
from findings f
join items i on i.id = f.item_id
where f.run_id = :run
order by f.kind, f.score desc, f.item_id, f.other_item_id
