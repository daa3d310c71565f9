pragma application_id = 1852137842;
pragma user_version = 3;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'nearsql','0001_metadata','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(2,'nearsql','0002_provenance','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(3,'nearsql','0003_things','2025-01-02T03:04:05.678Z');
CREATE TABLE annotations (
    id integer primary key,
    item_id integer not null references items (id) on delete cascade,
    run_id integer references runs (id) on delete cascade,
    class_id integer not null check (class_id >= 0),
    class_name text,
    x_min real check (x_min >= 0),
    y_min real check (y_min >= 0),
    x_max real,
    y_max real,
    mask_json text check (json_valid(mask_json)),       -- COCO RLE: {"size": [h, w], "counts": "..."}
    area real check (area >= 0),
    is_crowd integer not null default 0 check (is_crowd in (0, 1)),
    source text not null,
    check ((x_min is null) = (x_max is null) and (x_min is null) = (y_min is null)
           and (x_min is null) = (y_max is null)),
    check (x_max >= x_min and y_max >= y_min)
) strict;
INSERT INTO "annotations" VALUES(1,1,1,0,'cat',1.0,2.0,3.5,4.0,'{"size": [20, 40], "counts": [800]}',5.0,0,'coco');
INSERT INTO "annotations" VALUES(2,2,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,'hand');
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
INSERT INTO "item_errors" VALUES(2,2,2,NULL,'detect','too large','2025-01-02T03:04:05.678Z');
CREATE TABLE item_images (
    item_id integer primary key references items (id) on delete cascade,
    media_type text not null check (media_type like 'image/%'),
    data blob not null
) strict;
INSERT INTO "item_images" VALUES(2,'image/png',X'89504E470D0A1A0A00');
CREATE TABLE item_labels (
    item_id integer not null references items (id) on delete cascade,
    name text not null check (name <> ''),
    value text not null,
    source text not null check (source <> ''),          -- folder, table, a person's name, ...
    primary key (item_id, name)
) strict, without rowid;
INSERT INTO "item_labels" VALUES(1,'kind','cat','folder');
INSERT INTO "item_labels" VALUES(2,'kind','dog','folder');
CREATE TABLE items (
    id integer primary key,
    kind text not null check (kind in ('image', 'text')),
    collection text not null check (collection <> ''),
    sha256 text not null check (length(sha256) = 64),   -- of the file's bytes, or of the text as UTF-8
    uri text,                                           -- where it was read from
    content text,                                       -- the text itself; an image has none
    width integer check (width > 0),                    -- in pixels, as shown (after EXIF rotation)
    height integer check (height > 0),
    -- The place in its collection, from 0. A downsample by N takes sequence_number % N = 0.
    sequence_number integer not null check (sequence_number >= 0),
    run_id integer references runs (id) on delete set null,          -- the ingest that brought it
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    metadata_json text not null default '{}' check (json_valid(metadata_json)),
    unique (collection, sha256),
    check ((kind = 'text') = (content is not null)),
    check (kind = 'text' or (width is not null and height is not null))
) strict;
INSERT INTO "items" VALUES(1,'image','photos','0101010101010101010101010101010101010101010101010101010101010101','/photos/a.jpg',NULL,40,20,0,1,'2025-01-02T03:04:05.678Z','{"camera": "x"}');
INSERT INTO "items" VALUES(2,'image','photos','0202020202020202020202020202020202020202020202020202020202020202',NULL,NULL,40,20,1,NULL,'2025-01-02T03:04:05.678Z','{}');
INSERT INTO "items" VALUES(3,'text','words','0303030303030303030303030303030303030303030303030303030303030303',NULL,'a text, with ''quotes''
and two lines',NULL,NULL,0,NULL,'2025-01-02T03:04:05.678Z','{}');
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
CREATE INDEX items_run on items (run_id);
CREATE INDEX item_labels_value on item_labels (name, value);
CREATE INDEX annotations_item on annotations (item_id);
CREATE INDEX annotations_run on annotations (run_id);
COMMIT;
