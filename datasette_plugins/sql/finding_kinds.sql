-- The kinds of findings of a run, and how many a person has decided on
select
    kind,
    count(*) as findings,
    sum(decision is null) as undecided,
    sum(decision is 'keep') as kept,
    sum(decision is 'dismiss') as dismissed
from findings
where run_id = :run
group by kind
order by kind
