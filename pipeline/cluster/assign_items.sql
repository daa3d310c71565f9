-- Items join the clusters of the members that they hang on, at each level; or are noise at each.
-- rows: [[item, whether it joins, member, probability], ...]; the last is of level 1. What another process
-- has given a place meanwhile stays.
-- The index is named, since without statistics SQLite may prefer to read all memberships of the run.
insert into memberships (run_id, level, item_id, cluster_id, probability, is_assigned,
    assigned_by_run_id)
select m.run_id, m.level, r.value ->> 0, iif(r.value ->> 1, m.cluster_id, null),
    iif(m.level = 1, r.value ->> 3, null), 1, :assigned_by
from json_each(:rows) r
join memberships m indexed by memberships_item on m.run_id = :run and m.item_id = r.value ->> 2
where true
order by m.level, r.value ->> 0
on conflict (run_id, level, item_id) do nothing
