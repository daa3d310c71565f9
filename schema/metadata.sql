-- Facts about the file itself, such as the database_id that tells two files apart in a cache.
create table metadata (
    key text primary key check (key <> ''),
    value text not null
) strict, without rowid;
