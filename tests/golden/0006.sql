pragma application_id = 1852137842;
pragma user_version = 6;
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
INSERT INTO "_sqlite_migrations" VALUES(4,'nearsql','0004_vectors','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(5,'nearsql','0005_detector','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(6,'nearsql','0006_search','2025-01-02T03:04:05.678Z');
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
CREATE TABLE feature_maps (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    layer text not null,
    shape_json text not null check (json_valid(shape_json)),
    dtype text not null check (dtype in ('float16', 'float32')),
    codec text not null default 'raw',
    data blob not null,
    primary key (run_id, item_id, layer)
) strict;
INSERT INTO "feature_maps" VALUES(2,1,'p5','[1, 1, 1]','float16','raw',X'003C');
CREATE TABLE image_metrics (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    n_gt integer not null check (n_gt >= 0),
    n_pred integer not null check (n_pred >= 0),
    tp integer not null check (tp >= 0),
    fp integer not null check (fp >= 0),
    fn integer not null check (fn >= 0),
    mean_iou real check (mean_iou between 0 and 1),     -- over matches; NULL without one
    mean_iou_gt real check (mean_iou_gt between 0 and 1),  -- over ground truth; NULL without any
    mean_conf real check (mean_conf between 0 and 1),
    hit_freq real check (hit_freq between 0 and 1),     -- tp / n_gt
    dice_score real check (dice_score between 0 and 1),
    category_distribution_json text not null default '{}'
        check (json_valid(category_distribution_json)),
    flag_cat integer check (flag_cat in (0, 1)),        -- predicted classes differ from the true ones
    flag_supercat integer check (flag_supercat in (0, 1)),
    primary key (run_id, item_id)
) strict, without rowid;
INSERT INTO "image_metrics" VALUES(2,1,1,1,1,0,0,0.8,0.8,0.75,1.0,0.9,'{"cat": 1}',0,0);
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
CREATE TABLE loss_distances (
    run_id integer not null references runs (id) on delete cascade,
    target_item_id integer not null references items (id) on delete cascade,
    image_item_id integer not null references items (id) on delete cascade,
    component text not null,
    distance real,
    reason text,
    primary key (run_id, target_item_id, image_item_id, component),
    check ((distance is null) = (reason is not null))
) strict, without rowid;
INSERT INTO "loss_distances" VALUES(11,1,2,'cls',3.5,NULL);
INSERT INTO "loss_distances" VALUES(11,2,1,'cls',NULL,'no targets');
CREATE TABLE losses (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    component text not null,                            -- box, cls, dfl, seg, ...
    value real,
    reason text,                                        -- why there is no value
    normaliser real,                                    -- the target score sum it was divided by
    primary key (run_id, item_id, component),
    check ((value is null) = (reason is not null))
) strict, without rowid;
INSERT INTO "losses" VALUES(2,1,'box',1.25,NULL,4.0);
INSERT INTO "losses" VALUES(2,2,'box',NULL,'no ground truth',NULL);
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
CREATE TABLE neighbors (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    rank integer not null check (rank > 0),
    neighbor_id integer not null references items (id) on delete cascade,
    distance real not null,
    primary key (run_id, item_id, rank)
) strict, without rowid;
INSERT INTO "neighbors" VALUES(4,1,1,2,1.0);
INSERT INTO "neighbors" VALUES(4,2,1,1,1.0);
CREATE TABLE predictions (
    id integer primary key,
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    class_id integer not null check (class_id >= 0),
    class_name text,
    confidence real not null check (confidence between 0 and 1),
    x_min real not null,
    y_min real not null,
    x_max real not null,
    y_max real not null,
    mask_json text check (json_valid(mask_json)),       -- COCO RLE
    matched_annotation_id integer references annotations (id) on delete set null,
    iou real check (iou between 0 and 1),               -- with the matched annotation
    check (x_max >= x_min and y_max >= y_min)
) strict;
INSERT INTO "predictions" VALUES(1,2,1,0,'cat',0.75,1.0,2.0,3.0,4.0,'{"size": [20, 40], "counts": [800]}',1,0.8);
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
INSERT INTO "run_inputs" VALUES(3,4,'space','photos/features',NULL,1,2,1002,2,NULL);
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
CREATE TABLE spaces (
    id integer primary key,
    name text not null unique check (name <> ''),       -- digits/pixels, clip:ViT-B-32, yolov8n/gap/p5
    kind text not null check (kind in ('embedding', 'feature', 'projection', 'metric')),
    model_id integer references models (id) on delete restrict,
    run_id integer references runs (id) on delete cascade,
    dimensions integer not null check (dimensions > 0),
    metric text not null check (metric in ('cosine', 'l2', 'ip')),
    -- Counts the changes of this space's vectors. The token is drawn anew with each change, so that
    -- equal generation and token mean equal vectors, whatever was rolled back or restored.
    generation integer not null default 0 check (generation >= 0),
    generation_token integer not null default (random()),
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) strict;
INSERT INTO "spaces" VALUES(1,'photos/features','feature',1,2,3,'l2',2,1002,'2025-01-02T03:04:05.678Z');
INSERT INTO "spaces" VALUES(2,'words/tfidf','embedding',2,3,2,'cosine',1,2001,'2025-01-02T03:04:05.678Z');
CREATE TABLE vector_changes (
    space_id integer not null references spaces (id) on delete cascade,
    generation integer not null,
    generation_token integer not null,
    item_id integer not null,
    primary key (space_id, generation)
) strict, without rowid;
INSERT INTO "vector_changes" VALUES(1,1,1001,1);
INSERT INTO "vector_changes" VALUES(1,2,1002,2);
INSERT INTO "vector_changes" VALUES(2,1,2001,3);
CREATE TABLE vector_index_chunks (
    index_id integer not null references vector_indexes (id) on delete cascade,
    chunk_number integer not null check (chunk_number >= 0),
    data blob not null,
    primary key (index_id, chunk_number)
) strict;
INSERT INTO "vector_index_chunks" VALUES(1,0,X'010203');
CREATE TABLE vector_indexes (
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
INSERT INTO "vector_indexes" VALUES(1,1,10,'hnsw','{"M": 16, "search": {"1": [16, 2]}}',1,0,0,2,'{"1": 1.0}',2.5,3,'2025-01-02T03:04:05.678Z');
CREATE TABLE vectors (
    id integer primary key,
    space_id integer not null references spaces (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    run_id integer references runs (id) on delete cascade,
    vector blob not null,
    unique (space_id, item_id)
) strict;
INSERT INTO "vectors" VALUES(1,1,1,2,X'0000803F0000004000004040');
INSERT INTO "vectors" VALUES(2,1,2,2,X'0000803F0000004000008040');
INSERT INTO "vectors" VALUES(3,2,3,3,X'0000003F000080BF');
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
CREATE INDEX spaces_run on spaces (run_id);
CREATE INDEX spaces_model on spaces (model_id);
CREATE INDEX vectors_item on vectors (item_id);
CREATE INDEX vectors_run on vectors (run_id, space_id);
CREATE TRIGGER vectors_inserted
after insert on vectors
begin
    select raise(abort, 'the vector''s length is not 4 bytes (float32) for each dimension of its space')
    from spaces where id = new.space_id and length(new.vector) <> 4 * dimensions;
    update spaces set generation = generation + 1, generation_token = random()
    where id = new.space_id;
    insert into vector_changes (space_id, generation, generation_token, item_id)
    select id, generation, generation_token, new.item_id from spaces where id = new.space_id;
end;
CREATE TRIGGER vectors_deleted
after delete on vectors
begin
    update spaces set generation = generation + 1, generation_token = random()
    where id = old.space_id;
    insert into vector_changes (space_id, generation, generation_token, item_id)
    select id, generation, generation_token, old.item_id from spaces where id = old.space_id;
end;
CREATE TRIGGER vectors_updated
after update of space_id, item_id, vector on vectors
begin
    select raise(abort, 'the vector''s length is not 4 bytes (float32) for each dimension of its space')
    from spaces where id = new.space_id and length(new.vector) <> 4 * dimensions;
    update spaces set generation = generation + 1, generation_token = random()
    where id = old.space_id;
    insert into vector_changes (space_id, generation, generation_token, item_id)
    select id, generation, generation_token, old.item_id from spaces where id = old.space_id;
    update spaces set generation = generation + 1, generation_token = random()
    where id = new.space_id;
    insert into vector_changes (space_id, generation, generation_token, item_id)
    select id, generation, generation_token, new.item_id from spaces where id = new.space_id;
end;
CREATE TRIGGER vectors_id_is_not_reused
before insert on vectors
when exists (select 1 from vectors
             where id = new.id and (space_id <> new.space_id or item_id <> new.item_id))
begin
    select raise(abort, 'vectors.id belongs to another vector: leave the id out, SQLite gives one');
end;
CREATE TRIGGER vectors_id_never_changes
before update of id on vectors
when new.id <> old.id
begin
    select raise(abort, 'vectors.id never changes');
end;
CREATE TRIGGER spaces_meaning_never_changes
before update of dimensions, metric on spaces
when (new.dimensions <> old.dimensions or new.metric <> old.metric)
     and exists (select 1 from vectors where space_id = old.id)
begin
    select raise(abort, 'a space with vectors keeps its dimensions and metric: make a new space');
end;
CREATE INDEX feature_maps_item on feature_maps (item_id);
CREATE INDEX predictions_item on predictions (item_id, run_id);
CREATE INDEX predictions_run on predictions (run_id);
CREATE INDEX predictions_annotation on predictions (matched_annotation_id);
CREATE INDEX losses_item on losses (item_id);
CREATE INDEX image_metrics_item on image_metrics (item_id);
CREATE INDEX loss_distances_target on loss_distances (target_item_id);
CREATE INDEX loss_distances_image on loss_distances (image_item_id);
CREATE INDEX vector_indexes_run on vector_indexes (run_id);
CREATE INDEX neighbors_item on neighbors (item_id);
CREATE INDEX neighbors_neighbor on neighbors (neighbor_id);
COMMIT;
