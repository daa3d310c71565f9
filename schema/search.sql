-- Search: persistent indexes and stored neighbour graphs. All derived: drop and rebuild at will.

create table vector_indexes (
    id integer primary key,
    space_id integer not null references spaces (id) on delete cascade,
    run_id integer not null references runs (id) on delete cascade,
    engine text not null check (engine in ('hnsw', 'ivf', 'vec0')),
    -- As built. Its "search" says by k: the effort (efSearch of hnsw, nprobe of ivf), and the candidates
    -- whose exact distances are computed, in multiples of k.
    parameters_json text not null check (json_valid(parameters_json)),
    seed integer,
    generation integer not null,                        -- of the space when it was built
    generation_token integer not null,
    n integer not null check (n >= 0),
    recall_json text check (recall_json is null or json_valid(recall_json)),   -- by k, against exact neighbours of a sample
    min_recall real check (min_recall between 0 and 1), -- knn refuses an index below it
    build_ms real check (build_ms >= 0),
    bytes integer check (bytes >= 0),
    head_sha256 text check (length(head_sha256) = 64),  -- of parts 0 and 1: checked before it is opened
    sha256 text check (length(sha256) = 64),            -- of parts 0, 1 and 3 on: all but row ids
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    is_ready integer not null default 0 check (is_ready in (0, 1)),
    check (not is_ready or (recall_json is not null and min_recall is not null
                            and build_ms is not null and bytes is not null
                            and head_sha256 is not null and sha256 is not null))
) strict;

create index vector_indexes_space on vector_indexes (space_id);
create index vector_indexes_run on vector_indexes (run_id);

-- While a newer one is made, the older one serves.
create unique index vector_indexes_ready on vector_indexes (space_id, engine) where is_ready;

-- An index as bytes, little-endian. Part 0 is what faiss writes: an hnsw index whole, an ivf index
-- without its lists, followed by the number of vectors in each (int64). Part 1 is the item id of each place (int64, ascending), part 2 its `vectors.id`
-- (int64). Part 3 + l is list l of an ivf index: the places in it (int64), then their codes; an empty
-- list has none. In chunks, because one SQLite BLOB stops at 1 GB; with row ids, to be read piecemeal.
create table vector_index_chunks (
    index_id integer not null references vector_indexes (id) on delete cascade,
    part integer not null check (part >= 0),
    chunk_number integer not null check (chunk_number >= 0),
    data blob not null,
    primary key (index_id, part, chunk_number)
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
