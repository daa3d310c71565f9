-- The file's own facts, and the identity that caches key on.

create table metadata (
    key text primary key check (key <> ''),
    value text not null
) strict, without rowid;

-- Two files with the same vectors are still two files.
insert into metadata (key, value) values ('database_id', lower(hex(randomblob(16))));
