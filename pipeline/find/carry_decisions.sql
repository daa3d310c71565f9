-- Gives the findings of :run what a person decided last about the same kind of finding of the same items,
-- whichever of two stands first. What is said of a label or of a border must be the same, too: who has
-- changed a label since was not asked about the new one.
with claims as (
    select
        f.id, f.run_id, f.kind, f.decision, f.decided_at,
        min(f.item_id, ifnull(f.other_item_id, f.item_id)) as one,
        max(f.item_id, ifnull(f.other_item_id, f.item_id)) as other,
        f.evidence_json ->> 'label' as label,
        f.evidence_json ->> 'given' as given,
        f.evidence_json ->> 'suggested' as suggested,
        min(f.evidence_json ->> 'value', f.evidence_json ->> 'other_value') as value,
        max(f.evidence_json ->> 'value', f.evidence_json ->> 'other_value') as other_value
    from findings f
    join runs r on r.id = f.run_id
    where r.kind = 'find' and (f.run_id = :run or (f.run_id < :run and f.decision is not null))
),
latest as (
    select
        mine.id, before.decision, before.decided_at,
        row_number() over (partition by mine.id order by before.run_id desc, before.id desc) as place
    from claims mine
    join claims before on before.run_id < mine.run_id
        and before.kind = mine.kind and before.one = mine.one and before.other = mine.other
        and before.label is mine.label and before.given is mine.given
        and before.suggested is mine.suggested
        and before.value is mine.value and before.other_value is mine.other_value
    where mine.run_id = :run
)
update findings
set decision = latest.decision, decided_at = latest.decided_at
from latest
where latest.id = findings.id and latest.place = 1
