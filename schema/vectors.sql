-- Vectors: float32 little-endian BLOBs. A space is anything that kNN can search.

create table spaces (
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

create index spaces_run on spaces (run_id);
create index spaces_model on spaces (model_id);

create table vectors (
    id integer primary key,
    space_id integer not null references spaces (id) on delete cascade,
    item_id integer not null references items (id) on delete cascade,
    run_id integer references runs (id) on delete cascade,
    vector blob not null,
    unique (space_id, item_id)
) strict;

create index vectors_item on vectors (item_id);
create index vectors_run on vectors (run_id, space_id);

-- Which item's vector changed at which generation, so that an index or a cache is patched, not rebuilt.
-- Whoever finds that its generation (with its token) is no longer here reads the space anew.
create table vector_changes (
    space_id integer not null references spaces (id) on delete cascade,
    generation integer not null,
    generation_token integer not null,
    item_id integer not null,
    primary key (space_id, generation)
) strict, without rowid;

create trigger vectors_inserted
after insert on vectors
begin
    select raise(abort, 'the vector''s length is not 4 bytes (float32) for each dimension of its space')
    from spaces where id = new.space_id and length(new.vector) <> 4 * dimensions;
    update spaces set generation = generation + 1, generation_token = random()
    where id = new.space_id;
    insert into vector_changes (space_id, generation, generation_token, item_id)
    select id, generation, generation_token, new.item_id from spaces where id = new.space_id;
end;

create trigger vectors_deleted
after delete on vectors
begin
    update spaces set generation = generation + 1, generation_token = random()
    where id = old.space_id;
    insert into vector_changes (space_id, generation, generation_token, item_id)
    select id, generation, generation_token, old.item_id from spaces where id = old.space_id;
end;

-- The old row and the new row are both logged: the item or the space itself may have changed.
create trigger vectors_updated
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

-- REPLACE on the row id would delete another item's vector without setting off vectors_deleted.
create trigger vectors_id_is_not_reused
before insert on vectors
when exists (select 1 from vectors
             where id = new.id and (space_id <> new.space_id or item_id <> new.item_id))
begin
    select raise(abort, 'vectors.id belongs to another vector: leave the id out, SQLite gives one');
end;

create trigger vectors_id_never_changes
before update of id on vectors
when new.id <> old.id
begin
    select raise(abort, 'vectors.id never changes');
end;

-- What the vectors mean is fixed once there are any.
create trigger spaces_meaning_never_changes
before update of dimensions, metric on spaces
when (new.dimensions <> old.dimensions or new.metric <> old.metric)
     and exists (select 1 from vectors where space_id = old.id)
begin
    select raise(abort, 'a space with vectors keeps its dimensions and metric: make a new space');
end;
