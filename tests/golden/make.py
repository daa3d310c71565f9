"""Golden files: a database of each schema version, as text. `python -m tests.golden.make [--all]`.

Each is what the migrations up to that one make, with the rows of rows.py. Once it is committed it stays as
it is: it stands for the files that people have. `--all` writes all of them, which is right only while no
version is out.
"""

import argparse
import sqlite3
import sys
from contextlib import closing
from pathlib import Path
from typing import Any, cast

from sqlite_utils import Database

from nearsql import migrations
from nearsql.migrations.migrations import migration
from nearsql.udfs import dbapi
from tests.golden.rows import ROWS, T

HERE = Path(__file__).parent


def path_of(version: int) -> Path:
    """Where the golden file of a schema version is."""
    return HERE / f"{version:04}.sql"


def golden(version: int) -> str:
    """The text of a schema version's golden file. Raises ValueError when a table would be empty."""
    with closing(dbapi.connect(":memory:")) as db:
        steps = [step.name.removesuffix(".sql") for step in migrations.step_files()]
        _migrate(db, steps[version] if version < len(steps) else None)
        _fill(db)
        db.commit()
        return _dump(db.apsw.serialize("main"))


def _migrate(db: dbapi.Connection, stop_before: str | None) -> None:
    migration.apply(
        Database(cast(Any, db), execute_plugins=False),
        stop_before=stop_before,
    )
    db.execute("update _sqlite_migrations set applied_at = ?", (T,))
    db.execute("delete from metadata")  # drawn by chance


def _fill(db: dbapi.Connection) -> None:
    for table, row in ROWS:
        there = [name for _, name, *_ in db.execute(f"pragma table_info({table})")]
        values = {name: value for name, value in row.items() if name in there}
        if values:
            names = ", ".join(values)
            marks = ", ".join("?" * len(values))
            db.execute(f"insert into {table} ({names}) values ({marks})", tuple(values.values()))
    tables = {
        name
        for (name,) in db.execute(
            "select name from sqlite_schema where type = 'table' and name not like 'sqlite_%'"
        )
    }
    for table, rowid, parent, _ in db.execute("pragma foreign_key_check").fetchall():
        if parent in tables:
            raise ValueError(
                f"a row of {table} belongs to none of {parent}: mend tests/golden/rows.py"
            )
        db.execute(f"delete from {table} where rowid = ?", (rowid,))  # what it names came later
    for table in sorted(tables):
        if not db.execute(f"select 1 from {table} limit 1").fetchone():
            raise ValueError(
                f"the table {table} would be empty: give it rows in tests/golden/rows.py"
            )
    # Drawn by chance, too; of the file they are made anew with each change.
    if "vector_changes" in tables:
        db.execute("update vector_changes set generation_token = 1000 * space_id + generation")
        db.execute("update spaces set generation_token = 1000 * id + generation")
    if "runs" in tables:
        db.execute(
            "update runs set status = iif(kind = 'find', 'failed', 'finished'), finished_at = ?,"
            " error = iif(kind = 'find', 'it was too much', null), duration_ms = 12.5,"
            " result_sha256 = ?",
            (T, "cd" * 32),
        )


def _dump(data: bytes) -> str:
    """All of a file as SQL, by the standard library, with the two numbers that say what it is."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(data)
        (application_id,) = db.execute("pragma application_id").fetchone()
        (version,) = db.execute("pragma user_version").fetchone()
        return "\n".join(
            [
                f"pragma application_id = {application_id};",
                f"pragma user_version = {version};",
                *db.iterdump(),
                "",
            ]
        )


def load(text: str, path: Path | str) -> dbapi.Connection:
    """Makes the database file that a golden file is the text of, and opens it without our functions.

    By APSW's SQLite: up to 3.44, one refuses what the versions before 21 say of empty JSON columns.
    """
    db = dbapi.connect(path)
    db.executescript(text)
    db.commit()
    return db


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--all", action="store_true", help="all versions, those that exist too")
    everything = parser.parse_args().all
    for version in range(1, migrations.latest_version() + 1):
        if everything or not path_of(version).exists():
            path_of(version).write_text(golden(version), "utf-8")
            print(f"wrote {path_of(version).relative_to(Path.cwd())}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
