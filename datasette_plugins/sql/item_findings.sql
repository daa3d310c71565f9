-- What was found about an item, alone or in a pair, the newest first
select f.id, f.run_id, f.kind, f.score, f.decision,
       iif(length(f.evidence_json) <= 100000, f.evidence_json, '{}') as evidence_json,
       iif(f.item_id = :item, f.other_item_id, f.item_id) as other_id,
       o.kind as other_kind, o.sha256 as other_sha256, o.width < 100 as other_is_tiny,
       substr(o.content, 1, 160) as other_text
from (
    select * from findings where item_id = :item
    union all
    select * from findings where other_item_id = :item and item_id <> :item
) f
left join items o on o.id = iif(f.item_id = :item, f.other_item_id, f.item_id)
order by f.run_id desc, f.kind, f.id
limit 50
