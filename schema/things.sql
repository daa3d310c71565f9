-- Things: the images and texts that everything else is about.

create table items (
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

create index items_run on items (run_id);

-- The bytes of images that live in the file itself rather than in a folder.
create table item_images (
    item_id integer primary key references items (id) on delete cascade,
    media_type text not null check (media_type like 'image/%'),
    data blob not null
) strict;

create table item_labels (
    item_id integer not null references items (id) on delete cascade,
    name text not null check (name <> ''),
    value text not null,
    source text not null check (source <> ''),          -- folder, table, a person's name, ...
    primary key (item_id, name)
) strict, without rowid;

create index item_labels_value on item_labels (name, value);

-- Ground truth: the boxes, masks and classes that an item really has. Original pixels, as shown.
create table annotations (
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
    source text not null,
    polygons_json text check (polygons_json is null or json_valid(polygons_json)),  -- outline as drawn: [[x, y, x, y, ...], ...]
    check ((x_min is null) = (x_max is null) and (x_min is null) = (y_min is null)
           and (x_min is null) = (y_max is null)),
    check (x_max >= x_min and y_max >= y_min)
) strict;

create index annotations_item on annotations (item_id);
create index annotations_run on annotations (run_id);

-- The items whose ground truth is known, also when it is that nothing is there. An item that is not
-- here has no truth to be measured against, which is another thing than an empty image.
create table annotated_items (
    item_id integer primary key references items (id) on delete cascade,
    run_id integer references runs (id) on delete cascade,
    source text not null,
    truth_sha256 text not null check (length(truth_sha256) = 64)   -- of all its annotations
) strict;

create index annotated_items_run on annotated_items (run_id);

-- What a collection's class numbers mean.
create table classes (
    collection text not null check (collection <> ''),
    class_id integer not null check (class_id >= 0),
    name text not null check (name <> ''),
    supercategory text,
    primary key (collection, class_id)
) strict, without rowid;
