-- Names of clusters that can be checked: what a language model was asked and answered, and how well a
-- name tells the members it was not made from.

create table llm_responses (
    id integer primary key,
    run_id integer not null references runs (id) on delete cascade,
    -- Of model, options, system, prompt, schema and attachments: what was asked once is known.
    request_sha256 text not null check (length(request_sha256) = 64),
    model text not null check (model <> ''),
    options_json text not null default '{}' check (json_valid(options_json)),
    system text,
    prompt text not null,
    schema_json text check (json_valid(schema_json)),   -- NULL: the model takes none, the prompt says it
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

alter table cluster_labels add column keywords_json text check (json_valid(keywords_json));

alter table cluster_labels add column response_id integer references llm_responses (id) on delete set null;

alter table cluster_labels add column held_out_response_id integer
        references llm_responses (id) on delete set null;

alter table cluster_labels add column held_out_recall real check (held_out_recall between 0 and 1);

alter table cluster_labels add column held_out_json text check (json_valid(held_out_json));

alter table cluster_labels add column held_out_reason text;

create index cluster_labels_response on cluster_labels (response_id);

create index cluster_labels_held_out_response on cluster_labels (held_out_response_id);
