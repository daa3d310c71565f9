-- Which run gave an item to a cluster afterwards: without it, its memberships go.

alter table memberships add column assigned_by_run_id integer references runs (id) on delete cascade
    check (assigned_by_run_id is null or is_assigned = 1);

create index memberships_assigned_by on memberships (assigned_by_run_id)
    where assigned_by_run_id is not null;
