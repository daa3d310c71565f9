pragma application_id = 1852137842;
pragma user_version = 1;
BEGIN TRANSACTION;
CREATE TABLE "_sqlite_migrations" (
   "id" INTEGER PRIMARY KEY,
   "migration_set" TEXT,
   "name" TEXT,
   "applied_at" TEXT
);
INSERT INTO "_sqlite_migrations" VALUES(1,'nearsql','0001_metadata','2025-01-02T03:04:05.678Z');
CREATE TABLE metadata (
    key text primary key check (key <> ''),
    value text not null
) strict, without rowid;
INSERT INTO "metadata" VALUES('database_id','0123456789abcdef0123456789abcdef');
CREATE UNIQUE INDEX "idx__sqlite_migrations_migration_set_name"
    ON "_sqlite_migrations" ("migration_set", "name");
COMMIT;
