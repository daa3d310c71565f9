pragma application_id = 1852137842;
pragma user_version = 2;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'nearsql','0001_metadata','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(2,'nearsql','0002_provenance','2025-01-02T03:04:05.678Z');
CREATE TABLE item_errors (
    id integer primary key,
    run_id integer not null references runs (id) on delete cascade,
    item_id integer references items (id) on delete cascade,
    uri text,
    stage text not null,                                -- read, decode, embed, ...
    message text not null,
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    check (item_id is not null or uri is not null)
) strict;
INSERT INTO "item_errors" VALUES(1,1,NULL,'/photos/b.jpg','read','it is no image','2025-01-02T03:04:05.678Z');
CREATE TABLE metadata (
    key text primary key check (key <> ''),
    value text not null
) strict, without rowid;
INSERT INTO "metadata" VALUES('database_id','0123456789abcdef0123456789abcdef');
CREATE TABLE model_arrays (
    model_id integer not null references models (id) on delete cascade,
    name text not null check (name <> ''),
    data blob not null,
    primary key (model_id, name)
) strict, without rowid;
INSERT INTO "model_arrays" VALUES(2,'vocabulary',X'7B2261223A20307D');
CREATE TABLE models (
    id integer primary key,
    name text not null unique check (name <> ''),
    -- The family decides what the model may write: see isolation.sql.
    family text not null check (family in ('yolo', 'clip', 'dino', 'text', 'pixels', 'other')),
    checkpoint_sha256 text check (length(checkpoint_sha256) = 64),
    licence text,
    parameters_json text not null default '{}' check (json_valid(parameters_json)),
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) strict;
INSERT INTO "models" VALUES(1,'yolov8n-seg','yolo','abababababababababababababababababababababababababababababababab','AGPL-3.0','{"imgsz": 640}','2025-01-02T03:04:05.678Z');
INSERT INTO "models" VALUES(2,'tfidf','text',NULL,NULL,'{}','2025-01-02T03:04:05.678Z');
CREATE TABLE run_inputs (
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
INSERT INTO "run_inputs" VALUES(1,1,'file','/photos',NULL,NULL,NULL,NULL,2,'abababababababababababababababababababababababababababababababab');
INSERT INTO "run_inputs" VALUES(2,11,'run','run 2',2,NULL,NULL,NULL,NULL,NULL);
CREATE TABLE runs (
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
INSERT INTO "runs" VALUES(1,'ingest',NULL,NULL,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(2,'detect',1,NULL,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(3,'embed',2,NULL,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(4,'neighbors',NULL,NULL,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(5,'cluster',NULL,NULL,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(6,'project',NULL,NULL,'{"method": "pca"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(7,'evaluate',NULL,NULL,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(8,'find',NULL,NULL,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','failed','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd','it was too much','host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(9,'label',NULL,NULL,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(10,'index',NULL,NULL,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(11,'loss-distance',1,2,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
INSERT INTO "runs" VALUES(12,'assign',NULL,NULL,'{"label": "kind", "of": "é"}',7,'{"nearsql": "0.1.0"}','cpu','finished','{"items": 2}','{"read": 1.5}','cdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcdcd',NULL,'host 1','2025-01-02T03:04:05.678Z','2025-01-02T03:04:05.678Z',12.5);
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
CREATE INDEX runs_kind on runs (kind, status);
CREATE INDEX runs_parent on runs (parent_run_id);
CREATE INDEX runs_model on runs (model_id);
CREATE TRIGGER runs_finished_never_change
before update on runs
when old.status <> 'running' and not (
    new.parent_run_id is null
    and new.id is old.id and new.kind is old.kind and new.model_id is old.model_id
    and new.parameters_json is old.parameters_json and new.seed is old.seed
    and new.versions_json is old.versions_json and new.device is old.device
    and new.status is old.status and new.counts_json is old.counts_json
    and new.timings_json is old.timings_json and new.result_sha256 is old.result_sha256
    and new.error is old.error and new.process is old.process
    and new.started_at is old.started_at and new.finished_at is old.finished_at
    and new.duration_ms is old.duration_ms
)
begin
    select raise(abort, 'a run that has ended never changes: start a new run instead');
end;
CREATE INDEX run_inputs_run on run_inputs (run_id);
CREATE INDEX run_inputs_input_run on run_inputs (input_run_id);
CREATE INDEX run_inputs_space on run_inputs (space_id);
CREATE TRIGGER run_inputs_of_an_ended_run
before insert on run_inputs
when (select status from runs where id = new.run_id) <> 'running'
begin
    select raise(abort, 'a run that has ended reads nothing more: start a new run instead');
end;
CREATE INDEX item_errors_run on item_errors (run_id);
CREATE INDEX item_errors_item on item_errors (item_id);
COMMIT;
