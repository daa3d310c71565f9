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
-- Of each claim the newest decision comes first, and the findings of :run come last. A window sorts once,
-- where a join of the claims with themselves would compare each with all.
latest as (
    select
        id, run_id,
        first_value(run_id) over same as decided_by,
        first_value(decision) over same as decision,
        first_value(decided_at) over same as decided_at
    from claims
    window same as (
        partition by kind, one, other, label, given, suggested, value, other_value
        order by run_id = :run, run_id desc, id desc
    )
)
update findings
set decision = latest.decision, decided_at = latest.decided_at
from latest
where latest.id = findings.id and latest.run_id = :run and latest.decided_by < :run
