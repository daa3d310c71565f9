-- Which labels the members of clusters carry, the commonest of each; cluster_id NULL is the noise
with
counted as (
    select m.cluster_id, l.value, count(*) as n
    from memberships m
    join item_labels l on l.item_id = m.item_id and l.name = :label
    where m.run_id = :run and m.level = :level
      and iif(m.cluster_id is null, cast(:with_noise as integer), m.cluster_id in (select value from json_each(:clusters)))
    group by m.cluster_id, l.value
),
ranked as (
    select
        cluster_id,
        value,
        n,
        row_number() over of_cluster as place,
        sum(n) over of_cluster - n as before,
        sum(n) over (partition by cluster_id) as total,
        count(*) over (partition by cluster_id) as different
    from counted
    window of_cluster as (
        partition by cluster_id order by n desc, value rows unbounded preceding
    )
),
legend as (
    select value, row_number() over (order by count(*) desc, value) - 1 as code
    from item_labels
    where name = :label
    group by value
)
select r.cluster_id, r.value, r.n, r.before, r.total, r.different, legend.code
from ranked r
join legend on legend.value = r.value
where r.place <= cast(:most as integer)
order by r.cluster_id, r.place
