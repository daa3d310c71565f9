-- Maps: two coordinates for each item. Projections of more dimensions are spaces of their own.
create table projection_points (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    x real not null,
    y real not null,
    -- NULL: the run saw the item. Otherwise this run placed it among those it saw.
    placed_by_run_id integer references runs (id) on delete cascade,
    primary key (run_id, item_id)
) strict, without rowid;

create index projection_points_item on projection_points (item_id);

create index projection_points_placed_by on projection_points (placed_by_run_id)
    where placed_by_run_id is not null;

-- Of a map by PCA: what places any other vector on it. A coordinate is the vector (of a cosine space,
-- divided by its norm) less the mean, times the axis.
create table projection_axes (
    run_id integer not null references runs (id) on delete cascade,
    axis integer not null check (axis >= 0),            -- 0: the mean of the vectors; from 1: the axes
    vector blob not null check (length(vector) % 8 = 0),  -- float64, little-endian
    variance_share real,                                -- of all the variance; NULL: there is none
    primary key (run_id, axis)
) strict, without rowid;
