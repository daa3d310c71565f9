-- The losses of a detector on an item, and how many of the run's images have a smaller one. Of a run over
-- more than 2,000 numbers of items, evenly chosen ones stand for all.
with recursive
mine as materialized (
    select component, value, reason from losses where run_id = :run and item_id = :item
),
ends as materialized (
    select
        (select item_id from losses where run_id = :run order by item_id limit 1) as first_id,
        (select item_id from losses where run_id = :run order by item_id desc limit 1) as last_id
),
looked_at(item_id, last_id, step) as (
    select first_id, last_id, max(1, (last_id - first_id) / 2000) from ends
    union all
    select item_id + step, last_id, step from looked_at where item_id <= last_id - step
)
select
    m.component, m.value, m.reason,
    count(o.value) as images,
    sum(o.value < m.value) as below,
    sum(o.value = m.value) as equal
from mine m
cross join looked_at
left join losses o
    on o.run_id = :run and o.item_id = looked_at.item_id and o.component = m.component
group by m.component
order by m.component
