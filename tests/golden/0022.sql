pragma application_id = 1852137842;
pragma user_version = 22;
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
INSERT INTO "_sqlite_migrations" VALUES(7,'nearsql','0007_clusters','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(8,'nearsql','0008_maps','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(9,'nearsql','0009_judgement','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(10,'nearsql','0010_curation','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(11,'nearsql','0011_isolation','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(12,'nearsql','0012_views','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(13,'nearsql','0013_ground_truth','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(14,'nearsql','0014_indexes','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(15,'nearsql','0015_names','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(16,'nearsql','0016_assigned','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(17,'nearsql','0017_placed','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(18,'nearsql','0018_evaluation','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(19,'nearsql','0019_runs_within','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(20,'nearsql','0020_authors','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(21,'nearsql','0021_json_or_null','2025-01-02T03:04:05.678Z');
INSERT INTO "_sqlite_migrations" VALUES(22,'nearsql','0022_max_lambda','2025-01-02T03:04:05.678Z');
CREATE TABLE annotated_items (
    item_id integer primary key references items (id) on delete cascade,
    run_id integer references runs (id) on delete cascade,
    source text not null,
    truth_sha256 text not null check (length(truth_sha256) = 64)   -- of all its annotations
) strict;
INSERT INTO "annotated_items" VALUES(1,1,'coco','abababababababababababababababababababababababababababababababab');
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
    mask_json text check (mask_json is null or json_valid(mask_json)),       -- COCO RLE: {"size": [h, w], "counts": "..."}
    area real check (area >= 0),
    is_crowd integer not null default 0 check (is_crowd in (0, 1)),
    source text not null, polygons_json text check (polygons_json is null or json_valid(polygons_json)),
    check ((x_min is null) = (x_max is null) and (x_min is null) = (y_min is null)
           and (x_min is null) = (y_max is null)),
    check (x_max >= x_min and y_max >= y_min)
) strict;
INSERT INTO "annotations" VALUES(1,1,1,0,'cat',1.0,2.0,3.5,4.0,'{"size": [20, 40], "counts": [800]}',5.0,0,'coco','[[1, 2, 3.5, 2, 3.5, 4]]');
INSERT INTO "annotations" VALUES(2,2,NULL,1,NULL,NULL,NULL,NULL,NULL,NULL,NULL,0,'hand',NULL);
CREATE TABLE classes (
    collection text not null check (collection <> ''),
    class_id integer not null check (class_id >= 0),
    name text not null check (name <> ''),
    supercategory text,
    primary key (collection, class_id)
) strict, without rowid;
INSERT INTO "classes" VALUES('photos',0,'cat','animal');
CREATE TABLE cluster_labels (
    id integer primary key,
    cluster_id integer not null references clusters (id) on delete cascade,
    run_id integer references runs (id) on delete cascade,
    name text not null check (name <> ''),
    description text,
    category text,
    strength real,
    method text not null,                               -- keywords, llm, a person's hand
    model text,
    prompt text,
    shown_item_ids_json text check (shown_item_ids_json is null or json_valid(shown_item_ids_json)),
    prompt_tokens integer check (prompt_tokens >= 0),
    completion_tokens integer check (completion_tokens >= 0),
    held_out_precision real check (held_out_precision between 0 and 1),
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
, keywords_json text check (keywords_json is null or json_valid(keywords_json)), response_id integer references llm_responses (id) on delete set null, held_out_response_id integer
        references llm_responses (id) on delete set null, held_out_recall real check (held_out_recall between 0 and 1), held_out_json text check (held_out_json is null or json_valid(held_out_json)), held_out_reason text, author text check (author <> '')) strict;
INSERT INTO "cluster_labels" VALUES(1,1,9,'cats','what purrs','animal',0.5,'llm','m','name it','[1]',5,2,0.75,'2025-01-02T03:04:05.678Z','[["cat", 1.0, 0.5]]',1,1,0.5,'{"members": [[1, 1]], "others": []}',NULL,NULL);
INSERT INTO "cluster_labels" VALUES(2,2,NULL,'é',NULL,NULL,NULL,'hand',NULL,NULL,NULL,NULL,NULL,NULL,'2025-01-02T03:04:05.678Z',NULL,NULL,NULL,NULL,NULL,'no items were left','anna');
CREATE TABLE clusters (
    id integer primary key,
    run_id integer not null references runs (id) on delete cascade,
    level integer not null default 1 check (level > 0),  -- 1 is the coarsest
    label integer not null check (label >= 0),          -- unique in its level
    parent_id integer references clusters (id) on delete cascade,
    size integer not null check (size > 0),
    centroid blob,
    exemplar_item_id integer references items (id) on delete set null,
    birth_lambda real, max_lambda real,                                  -- 1 / distance at which it came to be
    unique (run_id, level, label)
) strict;
INSERT INTO "clusters" VALUES(1,5,1,0,NULL,1,X'0000803F0000004000004040',1,0.5,2.0);
INSERT INTO "clusters" VALUES(2,5,2,0,1,1,NULL,NULL,NULL,NULL);
CREATE TABLE cv_metrics (
    id integer primary key,
    run_id integer not null references runs (id) on delete cascade,
    space_id integer not null references spaces (id) on delete cascade,
    k integer not null check (k > 0),
    weighting text not null,
    fold integer,                                       -- NULL: over all folds
    metric text not null,
    value real,
    reason text,
    check ((value is null) = (reason is not null))
) strict;
INSERT INTO "cv_metrics" VALUES(1,7,1,1,'uniform',NULL,'accuracy',0.0,NULL);
INSERT INTO "cv_metrics" VALUES(2,7,1,1,'uniform',0,'r2',NULL,'one value only');
CREATE TABLE cv_neighbors (
    run_id integer not null references runs (id) on delete cascade,
    space_id integer not null references spaces (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    neighbor_ids blob not null check (length(neighbor_ids) % 8 = 0),
    distances blob not null check (length(distances) = length(neighbor_ids)),
    primary key (run_id, space_id, item_id)
) strict;
INSERT INTO "cv_neighbors" VALUES(7,1,1,X'0200000000000000',X'000000000000F03F');
CREATE TABLE cv_predictions (
    run_id integer not null references runs (id) on delete cascade,
    space_id integer not null references spaces (id) on delete cascade,
    k integer not null check (k > 0),
    weighting text not null,
    item_id integer not null references items (id) on delete cascade,
    fold integer not null check (fold >= 0),
    y_true any,
    y_pred any,
    score real,  -- who voted, with what weight
    primary key (run_id, space_id, k, weighting, item_id)
) strict, without rowid;
INSERT INTO "cv_predictions" VALUES(7,1,1,'uniform',1,0,'cat','dog',1.0);
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
CREATE TABLE findings (
    id integer primary key,
    run_id integer not null references runs (id) on delete cascade,
    kind text not null check (kind <> ''),              -- duplicate, outlier, label_error, leak, ...
    item_id integer not null references items (id) on delete cascade,
    other_item_id integer references items (id) on delete cascade,
    score real,
    evidence_json text not null default '{}' check (json_valid(evidence_json)),
    decision text check (decision in ('keep', 'dismiss')),  -- a person's answer
    decided_at text
) strict;
INSERT INTO "findings" VALUES(1,8,'duplicate',1,2,1.0,'{"distance": 1.0}','keep','2025-01-02T03:04:05.678Z');
CREATE TABLE folds (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    fold integer not null check (fold >= 0),
    group_key text,                                     -- items of one group share a fold
    primary key (run_id, item_id)
) strict, without rowid;
INSERT INTO "folds" VALUES(7,1,0,'a');
INSERT INTO "folds" VALUES(7,2,1,NULL);
CREATE TABLE image_metrics (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    n_gt integer check (n_gt >= 0),                     -- crowds left out
    n_pred integer not null check (n_pred >= 0),
    tp integer check (tp >= 0),
    fp integer check (fp >= 0),
    fn integer check (fn >= 0),
    mean_iou real check (mean_iou between 0 and 1),     -- over matches
    mean_iou_gt real check (mean_iou_gt between 0 and 1),  -- over ground truth: what is missed counts 0
    mean_conf real check (mean_conf between 0 and 1),
    hit_freq real check (hit_freq between 0 and 1),     -- tp / n_gt
    dice_score real check (dice_score between 0 and 1), -- of matched masks, over ground truth
    category_distribution_json text not null default '{}'
        check (json_valid(category_distribution_json)), -- predictions of each class
    flag_cat integer check (flag_cat in (0, 1)),        -- predicted classes differ from the true ones
    flag_supercat integer check (flag_supercat in (0, 1)),  -- the same over supercategories
    truth_sha256 text check (length(truth_sha256) = 64),   -- the ground truth it was measured against
    primary key (run_id, item_id),
    check ((n_gt is null) = (tp is null) and (n_gt is null) = (fp is null)
           and (n_gt is null) = (fn is null))
) strict, without rowid;
INSERT INTO "image_metrics" VALUES(2,1,1,1,1,0,0,0.8,0.8,0.75,1.0,0.9,'{"cat": 1}',0,0,'abababababababababababababababababababababababababababababababab');
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
CREATE TABLE llm_responses (
    id integer primary key,
    run_id integer not null references runs (id) on delete cascade,
    -- Of model, options, system, prompt, schema and attachments: what was asked once is known.
    request_sha256 text not null check (length(request_sha256) = 64),
    model text not null check (model <> ''),
    options_json text not null default '{}' check (json_valid(options_json)),
    system text,
    prompt text not null,
    schema_json text check (schema_json is null or json_valid(schema_json)),   -- NULL: the model takes none, the prompt says it
    attachments_json text not null default '[]' check (json_valid(attachments_json)),  -- SHA-256 of each
    response text not null,                             -- as it came; only answers of use are kept
    prompt_tokens integer check (prompt_tokens >= 0),   -- NULL: the provider does not say
    completion_tokens integer check (completion_tokens >= 0),
    is_cached integer not null default 0 check (is_cached in (0, 1)),  -- an earlier run had paid for it
    duration_ms real check (duration_ms >= 0),
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    unique (run_id, request_sha256)
) strict;
INSERT INTO "llm_responses" VALUES(1,9,'abababababababababababababababababababababababababababababababab','m','{}','be short','name it','{"type": "object"}','["abababababababababababababababababababababababababababababababab"]','{"name": "cats"}',5,2,1,1.5,'2025-01-02T03:04:05.678Z');
CREATE TABLE loss_distances (
    run_id integer not null references runs (id) on delete cascade,
    target_item_id integer not null references items (id) on delete cascade,
    image_item_id integer not null references items (id) on delete cascade,
    component text not null,
    distance real,
    reason text, normaliser real, n_foreground integer check (n_foreground >= 0),
    primary key (run_id, target_item_id, image_item_id, component),
    check ((distance is null) = (reason is not null))
) strict, without rowid;
INSERT INTO "loss_distances" VALUES(11,1,2,'cls',3.5,NULL,2.0,8);
INSERT INTO "loss_distances" VALUES(11,2,1,'cls',NULL,'no targets',NULL,0);
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
CREATE TABLE memberships (
    run_id integer not null references runs (id) on delete cascade,
    level integer not null default 1 check (level > 0),
    item_id integer not null references items (id) on delete cascade,
    cluster_id integer references clusters (id) on delete cascade,   -- NULL: noise
    probability real check (probability between 0 and 1),
    outlier_score real,
    core_distance real check (core_distance >= 0),
    is_assigned integer not null default 0 check (is_assigned in (0, 1)), assigned_by_run_id integer references runs (id) on delete cascade
    check (assigned_by_run_id is null or is_assigned = 1),  -- joined afterwards
    primary key (run_id, level, item_id)
) strict, without rowid;
INSERT INTO "memberships" VALUES(5,1,1,1,1.0,0.25,1.5,0,NULL);
INSERT INTO "memberships" VALUES(5,1,2,NULL,NULL,NULL,NULL,0,NULL);
INSERT INTO "memberships" VALUES(5,1,3,1,0.25,NULL,NULL,1,12);
INSERT INTO "memberships" VALUES(5,2,1,2,0.5,NULL,NULL,0,NULL);
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
    mask_json text check (mask_json is null or json_valid(mask_json)),       -- COCO RLE
    matched_annotation_id integer references annotations (id) on delete set null,
    iou real check (iou between 0 and 1),               -- with the matched annotation
    check (x_max >= x_min and y_max >= y_min)
) strict;
INSERT INTO "predictions" VALUES(1,2,1,0,'cat',0.75,1.0,2.0,3.0,4.0,'{"size": [20, 40], "counts": [800]}',1,0.8);
CREATE TABLE projection_axes (
    run_id integer not null references runs (id) on delete cascade,
    axis integer not null check (axis >= 0),            -- 0: the mean of the vectors; from 1: the axes
    vector blob not null check (length(vector) % 8 = 0),  -- float64, little-endian
    variance_share real,                                -- of all the variance; NULL: there is none
    primary key (run_id, axis)
) strict, without rowid;
INSERT INTO "projection_axes" VALUES(6,0,X'000000000000F03F00000000000000400000000000000C40',0.5);
CREATE TABLE projection_points (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    x real not null,
    y real not null, placed_by_run_id integer references runs (id) on delete cascade,
    primary key (run_id, item_id)
) strict, without rowid;
INSERT INTO "projection_points" VALUES(6,1,0.5,-1.25,NULL);
INSERT INTO "projection_points" VALUES(6,3,0.5,2.0,12);
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
CREATE TABLE selection_items (
    selection_id integer not null references selections (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    primary key (selection_id, item_id)
) strict, without rowid;
INSERT INTO "selection_items" VALUES(1,1);
INSERT INTO "selection_items" VALUES(2,3);
CREATE TABLE selections (
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
INSERT INTO "selections" VALUES(1,'some','ids',NULL,NULL,NULL,'by hand','2025-01-02T03:04:05.678Z');
INSERT INTO "selections" VALUES(2,'drawn','polygon',NULL,'[[0, 0], [1, 0], [1, 1]]',6,NULL,'2025-01-02T03:04:05.678Z');
INSERT INTO "selections" VALUES(3,'asked','sql','select 1',NULL,NULL,NULL,'2025-01-02T03:04:05.678Z');
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
    part integer not null check (part >= 0),
    chunk_number integer not null check (chunk_number >= 0),
    data blob not null,
    primary key (index_id, part, chunk_number)
) strict;
INSERT INTO "vector_index_chunks" VALUES(1,0,0,X'010203');
CREATE TABLE vector_indexes (
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
INSERT INTO "vector_indexes" VALUES(1,1,10,'hnsw','{"M": 16, "search": {"1": [16, 2]}}',1,0,0,2,'{"1": 1.0}',0.95,2.5,3,'abababababababababababababababababababababababababababababababab','abababababababababababababababababababababababababababababababab','2025-01-02T03:04:05.678Z',0);
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
CREATE INDEX loss_distances_target on loss_distances (target_item_id);
CREATE INDEX neighbors_item on neighbors (item_id);
CREATE INDEX neighbors_neighbor on neighbors (neighbor_id);
CREATE INDEX clusters_parent on clusters (parent_id);
CREATE INDEX clusters_exemplar on clusters (exemplar_item_id);
CREATE INDEX memberships_item on memberships (item_id);
CREATE INDEX memberships_cluster on memberships (cluster_id);
CREATE INDEX cluster_labels_cluster on cluster_labels (cluster_id);
CREATE INDEX cluster_labels_run on cluster_labels (run_id);
CREATE INDEX projection_points_item on projection_points (item_id);
CREATE INDEX folds_item on folds (item_id);
CREATE INDEX cv_predictions_item on cv_predictions (item_id);
CREATE INDEX cv_predictions_space on cv_predictions (space_id);
CREATE UNIQUE INDEX cv_metrics_key
on cv_metrics (run_id, space_id, k, weighting, ifnull(fold, -1), metric);
CREATE INDEX cv_metrics_space on cv_metrics (space_id);
CREATE UNIQUE INDEX findings_key
on findings (run_id, kind, item_id, ifnull(other_item_id, -1));
CREATE INDEX findings_item on findings (item_id);
CREATE INDEX findings_other_item on findings (other_item_id);
CREATE INDEX selections_projection_run on selections (projection_run_id);
CREATE INDEX selection_items_item on selection_items (item_id);
CREATE TRIGGER predictions_only_from_yolo_on_insert
before insert on predictions
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'predictions come only from a run whose model is of the yolo family');
end;
CREATE TRIGGER predictions_only_from_yolo_on_update
before update of run_id on predictions
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'predictions come only from a run whose model is of the yolo family');
end;
CREATE TRIGGER losses_only_from_yolo_on_insert
before insert on losses
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'losses come only from a run whose model is of the yolo family');
end;
CREATE TRIGGER losses_only_from_yolo_on_update
before update of run_id on losses
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'losses come only from a run whose model is of the yolo family');
end;
CREATE TRIGGER feature_maps_only_from_yolo_on_insert
before insert on feature_maps
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'feature_maps come only from a run whose model is of the yolo family');
end;
CREATE TRIGGER feature_maps_only_from_yolo_on_update
before update of run_id on feature_maps
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'feature_maps come only from a run whose model is of the yolo family');
end;
CREATE TRIGGER loss_distances_only_from_yolo_on_insert
before insert on loss_distances
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'loss_distances come only from a run whose model is of the yolo family');
end;
CREATE TRIGGER loss_distances_only_from_yolo_on_update
before update of run_id on loss_distances
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'loss_distances come only from a run whose model is of the yolo family');
end;
CREATE TRIGGER models_family_never_changes
before update of family on models
when new.family <> old.family and exists (select 1 from runs where model_id = old.id)
begin
    select raise(abort, 'the family of a model that has runs never changes: name a new model');
end;
CREATE TRIGGER runs_model_never_changes
before update of model_id on runs
when new.model_id is not old.model_id
begin
    select raise(abort, 'the model of a run never changes: start a new run');
end;
CREATE VIEW clustering_results as
select
    m.run_id,
    m.level,
    max(i.name) as space,
    r.parameters_json,
    count(distinct m.cluster_id) as clusters,
    count(*) as items,
    sum(m.cluster_id is null) as noise,
    round(1.0 * sum(m.cluster_id is null) / count(*), 4) as noise_share,
    sum(m.is_assigned) as assigned,
    r.finished_at
from memberships m
join runs r on r.id = m.run_id
left join run_inputs i on i.run_id = m.run_id and i.kind = 'space'
group by m.run_id, m.level;
CREATE VIEW embedding_clusters as
select
    m.run_id,
    i.name as space,
    m.level,
    m.item_id,
    c.label as cluster,
    (select l.name from cluster_labels l where l.cluster_id = c.id order by l.id desc limit 1)
        as cluster_name,
    m.probability,
    m.outlier_score,
    m.is_assigned
from memberships m
left join clusters c on c.id = m.cluster_id
left join run_inputs i on i.run_id = m.run_id and i.kind = 'space';
CREATE VIEW features as
select
    v.item_id,
    s.name as space,
    m.name as model,
    m.family,
    v.vector,
    s.dimensions,
    v.run_id
from vectors v
join spaces s on s.id = v.space_id
left join models m on m.id = s.model_id
where s.kind = 'feature';
CREATE VIEW run_lineage as
with recursive
direct(run_id, ancestor_run_id, relation) as (
    select run_id, input_run_id, 'input' from run_inputs where input_run_id is not null
    union
    select i.run_id, w.id, 'space ' || i.name
    from run_inputs i
    join runs w on w.id <> i.run_id
         and exists (select 1 from vectors v where v.run_id = w.id and v.space_id = i.space_id)
    where i.space_id is not null
    union
    select id, parent_run_id, 'parent' from runs where parent_run_id is not null
),
walk(run_id, ancestor_run_id, relation, depth) as (
    select run_id, ancestor_run_id, relation, 1 from direct
    union
    select w.run_id, d.ancestor_run_id, d.relation, w.depth + 1
    from walk w join direct d on d.run_id = w.ancestor_run_id
    where w.depth < 100
)
select w.run_id, r.kind, w.ancestor_run_id, a.kind as ancestor_kind, w.relation, min(w.depth) as depth
from walk w
join runs r on r.id = w.run_id
join runs a on a.id = w.ancestor_run_id
group by w.run_id, w.ancestor_run_id;
CREATE INDEX annotated_items_run on annotated_items (run_id);
CREATE INDEX loss_distances_image on loss_distances (image_item_id, run_id, component);
CREATE INDEX image_metrics_item on image_metrics (item_id);
CREATE TRIGGER image_metrics_only_from_yolo_on_insert
before insert on image_metrics
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'image_metrics come only from a run whose model is of the yolo family');
end;
CREATE TRIGGER image_metrics_only_from_yolo_on_update
before update of run_id on image_metrics
when not exists (select 1 from runs join models on models.id = runs.model_id
                 where runs.id = new.run_id and models.family = 'yolo')
begin
    select raise(abort, 'image_metrics come only from a run whose model is of the yolo family');
end;
CREATE VIEW embeddings as
select
    v.item_id,
    s.name as space,
    m.name as model,
    m.family,
    v.vector,
    s.dimensions,
    im.hit_freq,
    im.mean_iou,
    im.mean_conf,
    im.dice_score,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'box') as box_loss,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'cls') as cls_loss,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'dfl') as dfl_loss,
    (select value from losses l
     where l.run_id = im.run_id and l.item_id = v.item_id and l.component = 'seg') as seg_loss,
    im.flag_cat,
    im.flag_supercat,
    v.run_id,
    im.run_id as detect_run_id
from vectors v
join spaces s on s.id = v.space_id
left join models m on m.id = s.model_id
left join image_metrics im
    on im.item_id = v.item_id
    and im.run_id = (select max(judged.run_id) from image_metrics judged
                     join runs on runs.id = judged.run_id
                     where judged.item_id = v.item_id and runs.model_id = s.model_id)
where s.kind in ('embedding', 'feature');
CREATE VIEW distances as
select n.run_id, 'neighbor' as kind, n.item_id, n.neighbor_id as other_item_id,
       null as component, n.distance, n.rank
from neighbors n
join runs r on r.id = n.run_id and r.status = 'finished'
union all
select l.run_id, 'loss', l.target_item_id, l.image_item_id, l.component, l.distance, null
from loss_distances l
join runs r on r.id = l.run_id and r.status = 'finished';
CREATE TRIGGER runs_finished_never_change
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
CREATE INDEX vector_indexes_space on vector_indexes (space_id);
CREATE INDEX vector_indexes_run on vector_indexes (run_id);
CREATE UNIQUE INDEX vector_indexes_ready on vector_indexes (space_id, engine) where is_ready;
CREATE INDEX llm_responses_request on llm_responses (request_sha256);
CREATE INDEX cluster_labels_response on cluster_labels (response_id);
CREATE INDEX cluster_labels_held_out_response on cluster_labels (held_out_response_id);
CREATE INDEX memberships_assigned_by on memberships (assigned_by_run_id)
    where assigned_by_run_id is not null;
CREATE INDEX projection_points_placed_by on projection_points (placed_by_run_id)
    where placed_by_run_id is not null;
CREATE INDEX cv_neighbors_item on cv_neighbors (item_id);
CREATE INDEX cv_neighbors_space on cv_neighbors (space_id);
CREATE VIEW cv_confusion as
select p.run_id, p.space_id, p.k, p.weighting, p.y_true, p.y_pred, count(*) as n
from cv_predictions p
join runs r on r.id = p.run_id and json_extract(r.parameters_json, '$.label') is not null
group by p.run_id, p.space_id, p.k, p.weighting, p.y_true, p.y_pred;
CREATE VIEW current_runs as
select id as run_id, kind, model, space, finished_at
from (
    select
        r.id,
        r.kind,
        m.name as model,
        i.name as space,
        r.finished_at,
        row_number() over (
            partition by r.kind, r.model_id, i.name,
                         json_extract(r.parameters_json, '$.method'),
                         json_extract(r.parameters_json, '$.collection'),
                         json_extract(r.parameters_json, '$.within')
            order by r.id desc
        ) as newest
    from runs r
    left join models m on m.id = r.model_id
    left join run_inputs i on i.run_id = r.id and i.kind = 'space'
    where r.status = 'finished' and r.kind <> 'replay'
)
where newest = 1;
COMMIT;
