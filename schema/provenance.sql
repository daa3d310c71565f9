-- Who made what: models, runs, what each run read, and what it could not do.

create table models (
    id integer primary key,
    name text not null unique check (name <> ''),
    -- The family decides what the model may write: see isolation.sql.
    family text not null check (family in ('yolo', 'clip', 'dino', 'text', 'pixels', 'other')),
    checkpoint_sha256 text check (length(checkpoint_sha256) = 64),
    licence text,
    parameters_json text not null default '{}' check (json_valid(parameters_json)),
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) strict;

-- What a model learned from the collection itself (a tf-idf vocabulary, say), so that items added
-- later are measured with the same ruler. Arrays in numpy's .npy format, without pickles.
create table model_arrays (
    model_id integer not null references models (id) on delete cascade,
    name text not null check (name <> ''),
    data blob not null,
    primary key (model_id, name)
) strict, without rowid;

create table runs (
    id integer primary key,
    kind text not null check (kind <> ''),              -- ingest, embed, cluster, project, ...
    model_id integer references models (id) on delete restrict,
    parent_run_id integer references runs (id) on delete set null,   -- a replay names its original
    parameters_json text not null default '{}' check (json_valid(parameters_json)),  -- effective ones
    seed integer,
    versions_json text not null default '{}' check (json_valid(versions_json)),
    device text,
    status text not null default 'running'
        check (status in ('running', 'finished', 'failed', 'interrupted')),
    counts_json text not null default '{}' check (json_valid(counts_json)),
    timings_json text not null default '{}' check (json_valid(timings_json)),
    result_sha256 text check (length(result_sha256) = 64),   -- what a replay must reproduce
    error text,
    process text,                                       -- host and process id, to tell a dead run
    started_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    finished_at text,
    duration_ms real,
    check ((status = 'running') = (finished_at is null)),
    check (status <> 'failed' or error is not null)
) strict;

create index runs_kind on runs (kind, status);
create index runs_parent on runs (parent_run_id);
create index runs_model on runs (model_id);

-- parent_run_id may become NULL when the parent is deleted, and a run that was interrupted or failed
-- may go on where it stopped; nothing else of an ended run moves.
create trigger runs_finished_never_change
before update on runs
when old.status <> 'running' and not (
    new.id is old.id and new.kind is old.kind and new.model_id is old.model_id
    and new.parameters_json is old.parameters_json and new.seed is old.seed
    and new.versions_json is old.versions_json and new.device is old.device
    and new.counts_json is old.counts_json and new.timings_json is old.timings_json
    and new.result_sha256 is old.result_sha256 and new.started_at is old.started_at
    and (
        (new.parent_run_id is null
         and new.status is old.status and new.error is old.error and new.process is old.process
         and new.finished_at is old.finished_at and new.duration_ms is old.duration_ms)
        or (old.status in ('interrupted', 'failed') and new.status = 'running'
            and new.parent_run_id is old.parent_run_id and new.error is null)
    )
)
begin
    select raise(abort, 'a run that has ended never changes: start a new run instead');
end;

-- What a run read. A space is pinned by its generation and token, so that a replay can tell
-- whether the vectors are still those.
create table run_inputs (
    id integer primary key,
    run_id integer not null references runs (id) on delete cascade,
    kind text not null check (kind in ('run', 'space', 'collection', 'file')),
    name text not null,                                 -- stays readable when the input is deleted
    input_run_id integer references runs (id) on delete set null,
    space_id integer references spaces (id) on delete set null,
    generation integer,
    generation_token integer,
    rows integer check (rows >= 0),
    sha256 text check (length(sha256) = 64)
) strict;

create index run_inputs_run on run_inputs (run_id);
create index run_inputs_input_run on run_inputs (input_run_id);
create index run_inputs_space on run_inputs (space_id);

create trigger run_inputs_of_an_ended_run
before insert on run_inputs
when (select status from runs where id = new.run_id) <> 'running'
begin
    select raise(abort, 'a run that has ended reads nothing more: start a new run instead');
end;

-- What went wrong with one item or file while the run went on.
create table item_errors (
    id integer primary key,
    run_id integer not null references runs (id) on delete cascade,
    item_id integer references items (id) on delete cascade,
    uri text,
    stage text not null,                                -- read, decode, embed, ...
    message text not null,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    check (item_id is not null or uri is not null)
) strict;

create index item_errors_run on item_errors (run_id);
create index item_errors_item on item_errors (item_id);
