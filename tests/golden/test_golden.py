"""A file of every schema version there has been becomes one of today, with every row that it had."""

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from nearsql import migrations
from nearsql.pipeline.check import check_file
from nearsql.pipeline.cli import cli
from nearsql.udfs import connection
from tests.golden.make import golden, load, path_of
from tests.golden.rows import FILLED_BY_OTHERS, ROWS

VERSIONS = range(1, migrations.latest_version() + 1)
# Tables that a migration made anew without their rows: migration 14 says why.
NOT_KEPT = {"vector_indexes": 14, "vector_index_chunks": 14}
# Columns that went.
GONE = {("cv_predictions", "neighbors_json")}
# Columns that `make` fills at the end: what a run is when it has ended, and what triggers draw by chance.
FILLED_AT_THE_END = {
    *(
        ("runs", name)
        for name in ("status", "error", "finished_at", "duration_ms", "result_sha256")
    ),
    *(("spaces", name) for name in ("generation", "generation_token")),
}


def contents(path: Path) -> dict[str, tuple[list[str], list[dict[str, Any]]]]:
    """By table, its columns and its rows, read by the standard library."""
    found = {}
    with closing(sqlite3.connect(path)) as db:
        db.row_factory = sqlite3.Row
        for (table,) in db.execute(
            "select name from sqlite_schema where type = 'table' and name not like '\\_%' escape '\\'"
            " and name not like 'sqlite%'"
        ).fetchall():
            rows = [dict(row) for row in db.execute(f"select * from {table}")]
            found[table] = ([row[1] for row in db.execute(f"pragma table_info({table})")], rows)
    return found


def test_every_migration_has_a_golden_file() -> None:
    missing = [version for version in VERSIONS if not path_of(version).exists()]
    assert not missing, "run `python -m tests.golden.make` and commit what it writes"


@pytest.mark.parametrize("version", VERSIONS)
def test_a_golden_file_is_what_its_migrations_make(version: int) -> None:
    """A migration that is out is not rewritten: files made by it would differ from those that others have."""
    assert golden(version) == path_of(version).read_text("utf-8")


@pytest.mark.parametrize("version", VERSIONS)
def test_an_old_file_becomes_a_new_one(version: int, tmp_path: Path) -> None:
    path = tmp_path / "old.db"
    load(path_of(version).read_text("utf-8"), path).close()
    before = contents(path)
    assert all(rows for _, rows in before.values())
    if version < migrations.latest_version():
        with pytest.raises(sqlite3.OperationalError, match="run `nearsql migrate"):
            connection.open_database(path)
    outcome = CliRunner().invoke(cli, ["migrate", str(path)])
    assert outcome.exit_code == 0, outcome.output

    after = contents(path)
    for table, (_, rows) in before.items():
        columns, now = after[table]
        if version < NOT_KEPT.get(table, 0):
            assert now == []
            continue
        assert {name for name in rows[0] if name not in columns} <= {
            column for at, column in GONE if at == table
        }
        shared = [name for name in rows[0] if name in columns]
        kept = [{name: row[name] for name in shared} for row in now]
        assert kept == [{name: row[name] for name in shared} for row in rows], table

    with closing(connection.open_database(path)) as db:
        # Its schema, statement by statement, is among what is checked.
        wrong = [finding for finding in check_file(db) if finding.wrong]
        assert wrong == []
        assert db.execute("pragma integrity_check").fetchone() == ("ok",)
        if version >= 4:
            nearest = "select id, distance from knn('photos/features', 1, 5)"
            assert db.execute(nearest).fetchall() == [(2, 1.0)]


def test_the_newest_golden_file_fills_every_column_that_has_been() -> None:
    """What no golden file holds, no test would miss."""
    filled = {(table, column) for table, row in ROWS for column in row}
    known = set()
    for version in VERSIONS:
        with closing(load(path_of(version).read_text("utf-8"), ":memory:")) as db:
            tables = db.execute("select name from sqlite_schema where type = 'table'").fetchall()
            for (table,) in tables:
                known |= {(table, row[1]) for row in db.execute(f"pragma table_info({table})")}
    assert not filled - known
    assert known - filled - FILLED_AT_THE_END == {
        (table, column) for table, column in known if table in FILLED_BY_OTHERS
    }
