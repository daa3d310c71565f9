-- What a run found, as it is hashed.
select kind, item_id, other_item_id, score, evidence_json
from findings
where run_id = :run
order by kind, item_id, ifnull(other_item_id, -1)
