-- Two coordinates for each item, per projection run.

create table projection_points (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    x real not null,
    y real not null,
    primary key (run_id, item_id)
) strict, without rowid;

create index projection_points_item on projection_points (item_id);
