-- Groups, who belongs to them, and what they are called.

create table clusters (
    id integer primary key,
    run_id integer not null references runs (id) on delete cascade,
    level integer not null default 1 check (level > 0),  -- 1 is the coarsest
    label integer not null check (label >= 0),          -- unique in its level
    parent_id integer references clusters (id) on delete cascade,
    size integer not null check (size > 0),
    centroid blob,
    exemplar_item_id integer references items (id) on delete set null,
    birth_lambda real,                                  -- 1 / distance at which it came to be
    unique (run_id, level, label)
) strict;

create index clusters_parent on clusters (parent_id);
create index clusters_exemplar on clusters (exemplar_item_id);

create table memberships (
    run_id integer not null references runs (id) on delete cascade,
    level integer not null default 1 check (level > 0),
    item_id integer not null references items (id) on delete cascade,
    cluster_id integer references clusters (id) on delete cascade,   -- NULL: noise
    probability real check (probability between 0 and 1),
    outlier_score real,
    core_distance real check (core_distance >= 0),
    is_assigned integer not null default 0 check (is_assigned in (0, 1)),  -- joined afterwards
    primary key (run_id, level, item_id)
) strict, without rowid;

create index memberships_item on memberships (item_id);
create index memberships_cluster on memberships (cluster_id);

-- A cluster's names, by whatever method; several may stand beside each other.
create table cluster_labels (
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
    shown_item_ids_json text check (json_valid(shown_item_ids_json)),
    prompt_tokens integer check (prompt_tokens >= 0),
    completion_tokens integer check (completion_tokens >= 0),
    held_out_precision real check (held_out_precision between 0 and 1),
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now'))
) strict;

create index cluster_labels_cluster on cluster_labels (cluster_id);
create index cluster_labels_run on cluster_labels (run_id);
