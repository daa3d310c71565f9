-- An item joins the clusters of the member that it hangs on, at each level; or is noise at each.
-- It stays as it is if another process has given it a place meanwhile.
insert into memberships (run_id, level, item_id, cluster_id, is_assigned, assigned_by_run_id)
select run_id, level, :item, iif(:is_in, cluster_id, null), 1, :assigned_by
from memberships
where run_id = :run and item_id = :member
on conflict (run_id, level, item_id) do nothing
