-- Curation: named sets of items, with how they were chosen.

create table selections (
    id integer primary key,
    name text not null unique check (name <> ''),
    how text not null check (how in ('sql', 'polygon', 'ids')),
    sql text,
    polygon_json text check (polygon_json is null or json_valid(polygon_json)),
    projection_run_id integer references runs (id) on delete set null,
    note text,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    check (how <> 'sql' or sql is not null),
    check (how <> 'polygon' or polygon_json is not null)
) strict;

create index selections_projection_run on selections (projection_run_id);

create table selection_items (
    selection_id integer not null references selections (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    primary key (selection_id, item_id)
) strict, without rowid;

create index selection_items_item on selection_items (item_id);
