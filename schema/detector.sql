-- Detector: what a model of the yolo family says of an image, and how wrong it is.

-- Raw bottleneck maps, opt-in: layers x height x width numbers of one layer.
create table feature_maps (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    layer text not null,
    shape_json text not null check (json_valid(shape_json)),
    dtype text not null check (dtype in ('float16', 'float32')),
    codec text not null default 'raw',
    data blob not null,
    primary key (run_id, item_id, layer)
) strict;

create index feature_maps_item on feature_maps (item_id);

-- One row a detection. Boxes and masks in original pixels.
create table predictions (
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

create index predictions_item on predictions (item_id, run_id);
create index predictions_run on predictions (run_id);
create index predictions_annotation on predictions (matched_annotation_id);

create table losses (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    component text not null,                            -- box, cls, dfl, seg, ...
    value real,
    reason text,                                        -- why there is no value
    normaliser real,                                    -- the target score sum it was divided by
    primary key (run_id, item_id, component),
    check ((value is null) = (reason is not null))
) strict, without rowid;

create index losses_item on losses (item_id);

-- How well the detections of an image meet its ground truth. What needs ground truth is NULL where
-- nobody annotated the image; what needs a match, a prediction or an object is NULL without one.
create table image_metrics (
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

create index image_metrics_item on image_metrics (item_id);

-- The loss of image_item's forward pass when target_item's predictions are the targets: asymmetric.
create table loss_distances (
    run_id integer not null references runs (id) on delete cascade,
    target_item_id integer not null references items (id) on delete cascade,
    image_item_id integer not null references items (id) on delete cascade,
    component text not null,
    distance real,
    reason text,                                        -- why there is no distance
    normaliser real,                                    -- the target score sum it was divided by
    n_foreground integer check (n_foreground >= 0),     -- anchors of the image given to the targets
    primary key (run_id, target_item_id, image_item_id, component),
    check ((distance is null) = (reason is not null))
) strict, without rowid;

create index loss_distances_target on loss_distances (target_item_id);
create index loss_distances_image on loss_distances (image_item_id, run_id, component);
