-- Judgement: cross-validated predictions by neighbours, and findings about single items.

-- Which fold each judged item is in. It is predicted from its nearest items of the other folds.
create table folds (
    run_id integer not null references runs (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    fold integer not null check (fold >= 0),
    group_key text,                                     -- items of one group share a fold
    primary key (run_id, item_id)
) strict, without rowid;

create index folds_item on folds (item_id);

-- What each item's k nearest items of the other folds say of it. y_pred NULL: none of them had a vote.
create table cv_predictions (
    run_id integer not null references runs (id) on delete cascade,
    space_id integer not null references spaces (id) on delete cascade,
    k integer not null check (k > 0),
    weighting text not null,
    item_id integer not null references items (id) on delete cascade,
    fold integer not null check (fold >= 0),
    y_true any,
    y_pred any,
    score real,                                         -- the predicted label's share of the weight
    primary key (run_id, space_id, k, weighting, item_id)
) strict, without rowid;

create index cv_predictions_item on cv_predictions (item_id);
create index cv_predictions_space on cv_predictions (space_id);

-- Who votes for an item: its nearest items of the other folds, as many as the run's largest k, in the
-- order of (distance, id); the first k of them vote for k. `evaluation_neighbors` shows them as rows.
create table cv_neighbors (
    run_id integer not null references runs (id) on delete cascade,
    space_id integer not null references spaces (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    neighbor_ids blob not null check (length(neighbor_ids) % 8 = 0),  -- int64, little-endian
    distances blob not null check (length(distances) = length(neighbor_ids)),  -- float64, little-endian
    primary key (run_id, space_id, item_id)
) strict;

create index cv_neighbors_item on cv_neighbors (item_id);
create index cv_neighbors_space on cv_neighbors (space_id);

-- accuracy, macro_f1, top_5_accuracy and retrieval_map of labels; mae, r2 and spearman of numbers.
create table cv_metrics (
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

create unique index cv_metrics_key
on cv_metrics (run_id, space_id, k, weighting, ifnull(fold, -1), metric);
create index cv_metrics_space on cv_metrics (space_id);

create table findings (
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

create unique index findings_key
on findings (run_id, kind, item_id, ifnull(other_item_id, -1));
create index findings_item on findings (item_id);
create index findings_other_item on findings (other_item_id);
