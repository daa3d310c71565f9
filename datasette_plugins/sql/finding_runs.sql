-- Runs that looked for findings, the newest first, and how many a person has decided on
with counted as (
    select
        run_id,
        count(*) as findings,
        sum(decision is not null) as decided,
        sum(decision is 'keep') as kept,
        sum(decision is 'dismiss') as dismissed
    from findings
    group by run_id
)
select
    r.id as run_id,
    r.kind,
    r.status,
    r.finished_at,
    coalesce(
        (select max(i.name) from run_inputs i where i.run_id = r.id and i.kind = 'space'),
        json_extract(r.parameters_json, '$.space')
    ) as space,
    (select group_concat(k.kind || ' ' || k.n, ', ') from (
        select f.kind, count(*) as n from findings f where f.run_id = r.id
        group by f.kind order by f.kind
    ) k) as kinds,
    ifnull(c.findings, 0) as findings,
    ifnull(c.decided, 0) as decided,
    ifnull(c.kept, 0) as kept,
    ifnull(c.dismissed, 0) as dismissed
from runs r
left join counted c on c.run_id = r.id
where r.kind in ('find', 'failures') or c.run_id is not null
order by r.id desc
limit :limit
