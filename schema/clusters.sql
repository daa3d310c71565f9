-- Clusters: which groups a run found, and who belongs to them. Noise is NULL, never -1.

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
    max_lambda real,                                    -- and at which its heart falls apart
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
    assigned_by_run_id integer references runs (id) on delete cascade      -- by this run
        check (assigned_by_run_id is null or is_assigned = 1),
    primary key (run_id, level, item_id)
) strict, without rowid;

create index memberships_item on memberships (item_id);
create index memberships_cluster on memberships (cluster_id);
create index memberships_assigned_by on memberships (assigned_by_run_id)
    where assigned_by_run_id is not null;

-- What a language model was asked and answered. A question that an earlier run asked is not asked again.
create table llm_responses (
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

create index llm_responses_request on llm_responses (request_sha256);

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
    shown_item_ids_json text check (shown_item_ids_json is null or json_valid(shown_item_ids_json)),
    prompt_tokens integer check (prompt_tokens >= 0),
    completion_tokens integer check (completion_tokens >= 0),
    held_out_precision real check (held_out_precision between 0 and 1),
    created_at text not null default (strftime('%Y-%m-%dT%H:%M:%fZ', 'now')),
    keywords_json text check (keywords_json is null or json_valid(keywords_json)),   -- [[word, weight, share of members], ...]
    response_id integer references llm_responses (id) on delete set null,
    held_out_response_id integer
        references llm_responses (id) on delete set null,
    held_out_recall real check (held_out_recall between 0 and 1),
    -- Items the name was not made from: {"members": [[id, said to belong], ...], "others": [...]}
    held_out_json text check (held_out_json is null or json_valid(held_out_json)),
    held_out_reason text,                               -- why there is no precision
    author text check (author <> '')                    -- who gave the name, where a person did
) strict;

create index cluster_labels_cluster on cluster_labels (cluster_id);
create index cluster_labels_run on cluster_labels (run_id);
create index cluster_labels_response on cluster_labels (response_id);
create index cluster_labels_held_out_response on cluster_labels (held_out_response_id);
