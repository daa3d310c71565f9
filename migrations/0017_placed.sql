-- Items that a map did not see are placed on it afterwards; of PCA, the axes that place them exactly.

alter table projection_points add column placed_by_run_id integer references runs (id) on delete cascade;

create index projection_points_placed_by on projection_points (placed_by_run_id)
    where placed_by_run_id is not null;

create table projection_axes (
    run_id integer not null references runs (id) on delete cascade,
    axis integer not null check (axis >= 0),            -- 0: the mean of the vectors; from 1: the axes
    vector blob not null check (length(vector) % 8 = 0),  -- float64, little-endian
    variance_share real,                                -- of all the variance; NULL: there is none
    primary key (run_id, axis)
) strict, without rowid;
