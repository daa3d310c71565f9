"""The only way in: a sqlite3-shaped connection over APSW with nearsql's functions on it."""

import os
import warnings
import weakref
from pathlib import Path
from typing import Any, cast

import apsw
import sqlite_vec

from nearsql import migrations
from nearsql.udfs import catalogue, dbapi
from nearsql.udfs.dbapi.errors import translate

# The page size of new files, and the page cache that goes with it (SQLite's 2 MB would be 31 pages).
# Large pages read vectors 2-3x faster than 4 KiB ones: docs/design/page_size.md has the measurement.
PAGE_SIZE = 65536
CACHE_KIB = 65536
# Seconds that our commands wait for another writer: writes are short, but eight may queue.
WRITER_TIMEOUT = 60.0

# The connections that have been prepared, by their raw connection.
_prepared: "weakref.WeakSet[apsw.Connection]" = weakref.WeakSet()


class PendingMigrations(UserWarning):
    """The file's schema is older than this nearsql's; nothing is changed until `nearsql migrate`."""


def connect(
    path: str | os.PathLike[str],
    *,
    read_only: bool = False,
    immutable: bool = False,
    timeout: float = 5.0,
    isolation_level: Any = "",
    check_same_thread: bool = True,
) -> dbapi.Connection:
    """Opens a database file and offers every nearsql SQL function on it.

    The connection has the interface of the standard library's `sqlite3.Connection` and raises its
    exceptions, but the SQLite below is APSW's: `.apsw` is the raw connection. A file that does not
    exist yet is made, empty; `nearsql migrate FILE`, or any command that writes, gives it tables.

    timeout: seconds to wait for another writer. read_only: open without the right to write. immutable:
    the same, and trust that nobody else writes either: for files on read-only media.
    Raises sqlite3.DatabaseError for a file that is not a database, or of a newer schema version;
    warns PendingMigrations for one of an older version.
    """
    name = os.fspath(path)
    try:
        connection = dbapi.connect(
            _uri(name, immutable) if read_only or immutable else name,
            timeout=timeout,
            isolation_level=isolation_level,
            check_same_thread=check_same_thread,
            uri=read_only or immutable,
        )
    except dbapi.OperationalError as error:
        raise dbapi.OperationalError(f"{name} cannot be opened: {error}") from error
    try:
        state = migrations.file_state(connection)
        if state.state == "newer":
            raise dbapi.DatabaseError(state.problem(name))
        if problem := state.problem(name):
            warnings.warn(problem, PendingMigrations, stacklevel=2)
        prepare(connection)
    except dbapi.DatabaseError as error:
        connection.close()
        if "file is not a database" in str(error):
            raise dbapi.DatabaseError(
                f"{name} is not an SQLite database: give a database file, or a new name to make one"
            ) from error
        if "readonly" in str(error):  # the write-ahead log of a file in a read-only folder
            which = (
                f"the folder of {name} is read-only"
                if os.access(name, os.W_OK)
                else f"{name} is read-only, and so is its folder"
            )
            raise dbapi.OperationalError(
                f"{which}, where reading it needs to put a -shm file: "
                f"copy it elsewhere or, if nobody writes to it, open it as immutable"
            ) from error
        if "malformed" in str(error):
            raise dbapi.DatabaseError(
                f"{name} is damaged ({error}): take a copy of the file, or `sqlite3 FILE .recover`"
            ) from error
        raise
    except BaseException:
        connection.close()
        raise
    return connection


def connect_quietly(path: str | os.PathLike[str], **options: Any) -> dbapi.Connection:
    """`connect` without the warning of pending migrations, for callers that see to them."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", PendingMigrations)
        return connect(path, **options)


def prepare(connection: dbapi.Connection) -> None:
    """Gives an open connection the pragmas, sqlite-vec and all functions, as `connect` does.

    For connections that Datasette or sqlite-utils opened through the face. Pragmas are set only on
    nearsql's own files: other files keep the settings that their programs expect. Once a connection:
    Datasette hands its own to sqlite-utils, whose plugin asks again.
    """
    raw = connection.apsw
    if raw in _prepared:
        return
    try:
        _prepare(connection, raw)
    except apsw.Error as error:  # SQLite reads the schema now, which may be damaged
        raise translate(error) from error
    _prepared.add(raw)


def _prepare(connection: dbapi.Connection, raw: apsw.Connection) -> None:
    if migrations.file_state(connection).state != "foreign":
        raw.pragma("foreign_keys", True)
        raw.pragma("cache_size", -CACHE_KIB)
        # A hostile file's views and triggers must not call functions with side effects.
        raw.pragma("trusted_schema", False)
        # A misspelt "column" is an error, not a text.
        raw.config(apsw.SQLITE_DBCONFIG_DQS_DML, 0)
        raw.config(apsw.SQLITE_DBCONFIG_DQS_DDL, 0)
    raw.enable_load_extension(True)
    try:
        raw.load_extension(sqlite_vec.loadable_path())
    finally:
        raw.enable_load_extension(False)
    catalogue.register(raw, _Guard(connection), catalogue.load().values())


class _Guard:
    """Refuses functions on a file that they would misread. Asks the file until it is found right."""

    def __init__(self, connection: dbapi.Connection) -> None:
        self._connection = weakref.ref(connection)
        self._is_right = False

    def __call__(self) -> str | None:
        connection = self._connection()
        if self._is_right or connection is None:
            return None
        raw = connection.apsw
        state = migrations.file_state(raw)
        name = raw.filename or "this database"
        if state.state in ("empty", "foreign"):
            return _not_ours(name)
        self._is_right = state.state == "current"
        return state.problem(name)


def create(path: str | os.PathLike[str]) -> dbapi.Connection:
    """Opens a database for writing, giving it all tables first: a new file, or an older one.

    New files have 64 KiB pages and write-ahead logging, which suit vectors and concurrent readers. An
    SQLite file of no particular program gets our tables beside its own; that of another one is refused.
    """
    name = os.fspath(path)
    connection = connect_quietly(path, timeout=WRITER_TIMEOUT)
    try:
        _refuse_read_only(connection, name)
        (application_id,) = connection.execute("pragma application_id").fetchone()
        if application_id not in (0, migrations.APPLICATION_ID):
            raise dbapi.OperationalError(
                f"{name} belongs to another program (application_id {application_id}): "
                "choose another file"
            )
        if migrations.file_state(connection).state == "empty":
            connection.execute(f"pragma page_size = {PAGE_SIZE}")
            connection.execute("pragma journal_mode = wal")
            # SQLite counted the cache in the pages that the file had until now, a sixteenth as large.
            connection.apsw.pragma("cache_size", -CACHE_KIB)
        migrate(connection)
    except BaseException:
        connection.close()
        raise
    return connection


def _refuse_read_only(connection: dbapi.Connection, name: str) -> None:
    if connection.apsw.readonly("main"):
        raise dbapi.OperationalError(f"{name} is read-only: choose a file that can be written")


def open_database(
    path: str | os.PathLike[str], *, read_only: bool = False, immutable: bool = False
) -> dbapi.Connection:
    """Opens a nearsql database that exists and has this version's tables.

    Raises sqlite3.OperationalError with what to do for a missing file, a file without nearsql's tables,
    one of an older version, and one that cannot be written when it is to be.
    """
    name = os.fspath(path)
    if not Path(name).is_file():
        raise dbapi.OperationalError(
            f"there is no file {name}: `nearsql ingest {name} FOLDER` makes one, "
            f"`nearsql demo {name}` one to play with"
        )
    connection = connect_quietly(
        name, read_only=read_only, immutable=immutable, timeout=WRITER_TIMEOUT
    )
    try:
        state = migrations.file_state(connection)
        if state.state != "current":
            raise dbapi.OperationalError(state.problem(name) or _not_ours(name))
        if not (read_only or immutable):
            _refuse_read_only(connection, name)
    except BaseException:
        connection.close()
        raise
    return connection


def _not_ours(name: str) -> str:
    return (
        f"{name} is not a nearsql database: run `nearsql ingest` or `nearsql migrate` on it first"
    )


def migrate(connection: dbapi.Connection) -> list[str]:
    """Applies the migration steps that the file lacks, all or none; gives their names."""
    from sqlite_utils import Database

    from nearsql.migrations.migrations import migration

    if not migrations.pending(connection):
        return []
    # The lock first, then a second look: another process may be doing the same.
    connection.execute("begin immediate")
    try:
        steps = migrations.pending(connection)
        if steps:
            migration.apply(Database(cast(Any, connection), execute_plugins=False))
        connection.commit()
    except BaseException:
        connection.rollback()
        raise
    return steps


def _uri(name: str, immutable: bool) -> str:
    return Path(name).absolute().as_uri() + ("?immutable=1" if immutable else "?mode=ro")
