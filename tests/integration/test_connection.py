"""Opening files: right ones, wrong ones, read-only ones, and many at once."""

import shutil
import sqlite3
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from pathlib import Path

import apsw
import pytest

import nearsql
from nearsql import migrations
from nearsql.udfs import connection, dbapi

MAIN = "from nearsql.pipeline.cli import main; main()"


def set_version(path: Path, version: int) -> None:
    with sqlite3.connect(path) as db:
        db.execute(f"pragma user_version = {version}")
    db.close()


def test_connect_is_the_sqlite3_interface(database: Path) -> None:
    with nearsql.connect(database) as db:
        assert db.execute("select sqlite_version()").fetchone() == (dbapi.sqlite_version,)
        assert db.execute("pragma foreign_keys").fetchone() == (1,)
        assert db.execute("pragma trusted_schema").fetchone() == (0,)
        assert db.apsw.db_filename("main") == str(database)
        with pytest.raises(sqlite3.OperationalError, match="no such column"):
            db.execute('select "misspelt" from items')
    db.close()
    with pytest.raises(sqlite3.ProgrammingError):
        db.execute("select 1")


def test_an_older_file_is_reported_and_left_alone(database: Path) -> None:
    set_version(database, 3)
    with pytest.warns(
        connection.PendingMigrations, match=r"schema version 3, older than .* migrate"
    ):
        db = nearsql.connect(database)
    with pytest.raises(sqlite3.OperationalError, match=r"knn: .* older than"):
        db.execute("select * from knn('s', 1, 1)")
    assert db.execute("pragma user_version").fetchone() == (3,)
    db.close()


def test_a_newer_file_is_refused_everywhere(database: Path) -> None:
    db = nearsql.connect(database)
    set_version_through(db, migrations.latest_version() + 1)
    # Even on a connection that was open before.
    fresh = dbapi.connect(str(database))
    connection.prepare(fresh)
    for function in ("knn('s', 1, 1)", "knn_graph('s')", "hdbscan('s')", "space_groups()"):
        with pytest.raises(sqlite3.OperationalError, match=r"newer than .* upgrade nearsql"):
            fresh.execute(f"select * from {function}")
    with pytest.raises(sqlite3.DatabaseError, match="newer than"):
        nearsql.connect(database)
    with pytest.raises(sqlite3.DatabaseError, match="newer than"):
        connection.create(database)


def set_version_through(db: dbapi.Connection, version: int) -> None:
    db.execute(f"pragma user_version = {version}")
    db.commit()


def test_what_is_no_database_is_a_sentence(tmp_path: Path) -> None:
    text = tmp_path / "notes.txt"
    text.write_text("not a database at all\n" * 100)
    for open_it in (nearsql.connect, connection.create, connection.open_database):
        with pytest.raises(
            sqlite3.DatabaseError, match=r"notes.txt is not an SQLite database: give"
        ):
            open_it(text)
    assert text.read_text().startswith("not a database")
    with pytest.raises(sqlite3.OperationalError, match="cannot be opened: unable to open"):
        nearsql.connect(tmp_path / "no" / "such" / "folder.db")
    with pytest.raises(sqlite3.OperationalError, match="there is no file"):
        connection.open_database(tmp_path / "missing.db")


def test_an_ordinary_database_can_be_joined_another_programs_cannot(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    with sqlite3.connect(path) as db:
        db.execute("create table birds (name)")
    db.close()
    with nearsql.connect(path) as ours:  # no warning: it is not ours to migrate
        assert ours.execute("select name from birds").fetchall() == []
    ours.close()
    assert connection.create(path).execute("select count(*) from items").fetchone() == (0,)
    other = tmp_path / "map.gpkg"
    with sqlite3.connect(other) as db:
        db.execute("pragma application_id = 1196444487")
        db.execute("create table gpkg_contents (a)")
    db.close()
    with pytest.raises(sqlite3.OperationalError, match="belongs to another program"):
        connection.create(other)


def test_a_read_only_file_in_a_read_only_folder(database: Path, as_nobody: Callable) -> None:
    folder = database.parent / "archive"
    folder.mkdir()
    path = folder / "x.db"
    shutil.copy(database, path)
    path.chmod(0o444)
    folder.chmod(0o555)
    said = as_nobody("sql", path, "select count(*) from items", "--csv")
    assert said.returncode == 1
    assert said.stderr.count("\n") == 1
    assert "read-only, and so is its folder" in said.stderr
    assert "immutable" in said.stderr
    said = as_nobody("sql", path, "select count(*) as n from items", "--csv", "--immutable")
    assert said.stdout.split() == ["n", "0"], said.stderr
    for command in (("embed", path, "--model", "pixels"), ("migrate", path)):
        said = as_nobody(*command)
        assert (said.returncode, said.stderr.count("\n")) == (1, 1), said.stderr
        assert "is read-only" in said.stderr


def test_a_read_only_file_in_a_writable_folder(database: Path, as_nobody: Callable) -> None:
    database.chmod(0o444)
    database.parent.chmod(0o777)
    assert as_nobody("sql", database, "select 7 as n", "--csv").stdout.split() == ["n", "7"]
    said = as_nobody("embed", database, "--model", "pixels")
    assert said.stderr == f"nearsql: {database} is read-only: choose a file that can be written\n"


@pytest.fixture
def as_nobody(tmp_path: Path) -> Callable[..., subprocess.CompletedProcess[str]]:
    """Runs `nearsql` as a user without special rights: root may write everything."""
    for folder in (tmp_path, *tmp_path.parents):
        if folder.is_relative_to(tempfile.gettempdir()) and folder.stat().st_mode & 0o777 == 0o700:
            folder.chmod(0o755)
    # All is imported first: the user may not read where Python is installed.
    program = (
        "import os, sys, importlib.resources.readers, encodings.idna\n"
        "from nearsql.pipeline import cli, console\n"
        "context = cli.click.Context(cli.cli)\n"
        "cli.cli.get_command(context, sys.argv[1])\n"
        "import nearsql; nearsql.connect(':memory:').close()\n"
        "from nearsql.migrations import migrations; import faiss, PIL.Image\n"
        "if os.geteuid() == 0: os.setgid(65534); os.setuid(65534)\n"
        "cli.main()"
    )

    def run(*args: object) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-c", program, *map(str, args)], capture_output=True, text=True
        )

    return run


def test_many_processes_may_create_at_once(tmp_path: Path) -> None:
    path = tmp_path / "new.db"
    program = (
        "import sys, time; from nearsql.udfs.connection import create\n"
        "time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "create(sys.argv[1]).close()"
    )

    start = str(time.time() + 2)
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(path), start], stderr=subprocess.PIPE, text=True
        )
        for _ in range(6)
    ]
    for process in processes:
        _, said = process.communicate()
        assert process.returncode == 0, said
    db = nearsql.connect(path)
    assert migrations.file_state(db).state == "current"
    assert db.execute("pragma page_size").fetchone() == (connection.PAGE_SIZE,)
    assert db.execute("pragma journal_mode").fetchone() == ("wal",)
    db.close()


def test_a_migration_is_all_or_nothing(tmp_path: Path) -> None:
    path = tmp_path / "own.db"
    db = nearsql.connect(path)
    db.execute("create view clustering_results as select 1")  # stands in the way of the last step
    db.commit()
    with pytest.raises(sqlite3.OperationalError, match="already exists"):
        connection.migrate(db)
    assert db.execute("select name from sqlite_schema").fetchall() == [("clustering_results",)]
    assert db.execute("pragma user_version").fetchone() == (0,)
    assert not db.in_transaction
    db.close()


def test_connections_are_not_kept_alive_by_their_functions(database: Path) -> None:
    import gc
    import weakref

    gc.disable()
    try:
        db = nearsql.connect(database)
        db.execute("select * from space_groups()").fetchall()
        raw = weakref.ref(db.apsw)
        db.close()
        del db
        assert raw() is None
    finally:
        gc.enable()


def test_no_warning_for_a_current_file(database: Path) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        nearsql.connect(database).close()


def test_the_cache_of_a_new_file_is_bounded_as_that_of_an_old_one(tmp_path: Path) -> None:
    db = connection.create(tmp_path / "new.db")
    db.execute("create table blobs (data blob)")
    with db:
        for _ in range(100):
            db.execute("insert into blobs values (randomblob(1000000))")
    used, _ = db.apsw.status(apsw.SQLITE_DBSTATUS_CACHE_USED)
    assert used < 1.2 * 1024 * connection.CACHE_KIB
    db.close()
