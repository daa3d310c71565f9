-- The items of a space that a clustering run has not, neither as members nor assigned.
select v.item_id
from vectors v
where v.space_id = :space_id and not exists (
    select 1 from memberships m
    where m.run_id = :run and m.level = 1 and m.item_id = v.item_id
)
order by v.item_id
