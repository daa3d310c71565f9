-- Persistent indexes and stored neighbour graphs, all of them derived.

create table vector_indexes (
    id integer primary key,
    space_id integer not null references spaces (id) on delete cascade,
    run_id integer references runs (id) on delete cascade,
    engine text not null check (engine in ('hnsw', 'ivf', 'vec0')),
    parameters_json text not null default '{}' check (json_valid(parameters_json)),
    seed integer,
    generation integer not null,                        -- of the space when it was built
    generation_token integer not null,
    n integer not null check (n >= 0),
    recall_json text check (json_valid(recall_json)),   -- against exact neighbours, by k
    build_ms real check (build_ms >= 0),
    bytes integer check (bytes >= 0),
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    unique (space_id, engine)
) strict;

create index vector_indexes_run on vector_indexes (run_id);

-- In chunks, because one SQLite BLOB stops at 1 GB.
create table vector_index_chunks (
    index_id integer not null references vector_indexes (id) on delete cascade,
    chunk_number integer not null check (chunk_number >= 0),
    data blob not null,
    primary key (index_id, chunk_number)
) strict;

-- A stored kNN graph: each item's neighbours, the nearest at rank 1.
create table neighbors (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    rank integer not null check (rank > 0),
    neighbor_id integer not null references items (id) on delete cascade,
    distance real not null,
    primary key (run_id, item_id, rank)
) strict, without rowid;

create index neighbors_item on neighbors (item_id);
create index neighbors_neighbor on neighbors (neighbor_id);
