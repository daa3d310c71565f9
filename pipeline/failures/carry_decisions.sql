-- Gives the findings of :run what a person decided last about the same finding of the same detector. The
-- mistakes in an image must be the same: who dismissed two was not asked about a third.
with claims as (
    select
        f.id, f.run_id, f.kind, f.item_id, f.decision, f.decided_at,
        json_array(
            (
                select json_group_array(json_array(m.value -> 'class', m.value -> 'area', m.value -> 'why'))
                from json_each(f.evidence_json, '$.misses') m
            ),
            (
                select json_group_array(json_array(a.value -> 'class', a.value -> 'area', a.value -> 'why'))
                from json_each(f.evidence_json, '$.alarms') a
            ),
            f.evidence_json -> 'metric',
            f.evidence_json -> 'space',
            f.evidence_json -> 'items'
        ) as claim
    from findings f
    join runs r on r.id = f.run_id
    where r.kind = 'failures'
      and r.model_id is (select model_id from runs where id = :run)
      and (f.run_id = :run or (f.run_id < :run and f.decision is not null))
),
latest as (
    select
        mine.id, before.decision, before.decided_at,
        row_number() over (partition by mine.id order by before.run_id desc) as place
    from claims mine
    join claims before
        on before.run_id < mine.run_id
        and before.kind = mine.kind
        and before.item_id = mine.item_id
        and before.claim = mine.claim
    where mine.run_id = :run
)
update findings
set decision = latest.decision, decided_at = latest.decided_at
from latest
where latest.id = findings.id and latest.place = 1
