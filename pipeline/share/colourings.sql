-- What a map is coloured by on a shared page: the newest clustering, of its own space if there is one, and labels
with
newest as (
    select
        c.run_id,
        (select max(i.name) from run_inputs i where i.run_id = c.run_id and i.kind = 'space') as space
    from (select distinct run_id from clusters) c
    where exists (
        select 1 from memberships m
        join projection_points p on p.run_id = :run and p.item_id = m.item_id
        where m.run_id = c.run_id
    )
    order by space is :space desc, c.run_id desc
    limit 1
),
labels as (
    select l.name, count(*) as items, count(distinct l.value) as labels
    from item_labels l
    join projection_points p on p.run_id = :run and p.item_id = l.item_id
    group by l.name
    having count(distinct l.value) <= :most_values
    order by items desc, l.name
    limit :most_labels
)
select
    'cluster:' || c.run_id || ':' || c.level as key,
    'Clusters' || iif((select max(level) from clusters x where x.run_id = c.run_id) > 1,
                      ', level ' || c.level, '') as title
from (select distinct run_id, level from clusters where run_id = (select run_id from newest)) c
union all
select 'label:' || name, name from labels
union all
select 'outlier:' || run_id || ':1', 'Outlier score'
from newest
where exists (
    select 1 from memberships m
    where m.run_id = newest.run_id and m.level = 1 and m.outlier_score is not null
)
