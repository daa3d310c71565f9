"""An open database: which thread may use it, and when its transactions begin and end."""

import os
import sqlite3
import sys
import threading
from collections.abc import Callable
from threading import get_ident
from types import TracebackType
from typing import Any
from urllib.parse import parse_qs, quote

import apsw

from nearsql.udfs.dbapi import statements
from nearsql.udfs.dbapi.errors import CLOSED_DATABASE, translate

# The value of `autocommit` (Python 3.12) under which `isolation_level` decides.
LEGACY_TRANSACTION_CONTROL = -1

_ISOLATION_LEVELS = ("", "DEFERRED", "IMMEDIATE", "EXCLUSIVE")


class Session:
    """What cursors, blobs and callbacks need of a connection.

    A connection used by several threads (`check_same_thread=False`) waits for its lock, as the
    standard library's waits for SQLite's mutex; APSW alone would refuse the second thread.
    """

    # What holds until __init__ has run, in a subclass that does not call it.
    _initialised = False
    _open = False
    _thread: int | None = None

    row_factory: Any
    text_factory: Callable[[bytes], Any]

    def __init__(
        self,
        database: str | bytes | os.PathLike[str] | os.PathLike[bytes],
        timeout: float,
        detect_types: int,
        isolation_level: str | None,
        check_same_thread: bool,
        cached_statements: int,
        uri: bool,
        autocommit: int,
    ) -> None:
        # Initialised once more, it leaves its cursors the database they have.
        self._initialised = self._open = False
        if isolation_level is not None:
            _check_isolation_level(isolation_level)
        self._isolation_level = isolation_level
        self._autocommit = _check_autocommit(autocommit)
        self._thread = get_ident() if check_same_thread else None
        self.lock = threading.RLock()
        self.detect_types = detect_types
        self.row_factory = None
        self.text_factory = str
        self.running = Running()

        name = os.fsdecode(database)
        if "\0" in name:
            raise ValueError("embedded null character")
        if uri and is_shared_memory(name):
            raise sqlite3.NotSupportedError(
                f"{name}: APSW has no shared cache; nearsql.udfs.dbapi.connect, without a factory, "
                "gives a connection of the standard library for such a name"
            )
        sys.audit("sqlite3.connect", database)
        if not uri and not _is_unicode(name):
            # APSW takes names as text; bytes that are none can be written in a URI.
            name, uri = "file:" + quote(os.fsencode(name)), True
        flags = apsw.SQLITE_OPEN_READWRITE | apsw.SQLITE_OPEN_CREATE
        if uri:
            flags |= apsw.SQLITE_OPEN_URI
        try:
            self._db = apsw.Connection(name, flags=flags, statementcachesize=cached_statements)
        except apsw.Error as error:
            raise translate(error) from error
        self._db.set_busy_timeout(int(timeout * 1000))
        self._longest_sql = self._db.limit(apsw.SQLITE_LIMIT_SQL_LENGTH)
        self._initialised = self._open = True
        if self._autocommit is False:
            self._run("BEGIN")
        sys.audit("sqlite3.connect/handle", self)

    @property
    def apsw(self) -> apsw.Connection:
        """The APSW connection below, with everything this interface does not have."""
        if not self._open:
            self.check_open()
        return self._db

    def use(self) -> "Use":
        """The APSW connection in a `with`: alone with it, its errors those of this interface."""
        self.check_usable()
        return Use(self._db, self.lock)

    # --- states ---------------------------------------------------------------------------------

    def check_usable(self) -> None:
        """Raises unless the connection is open and belongs to this thread."""
        if self._thread is not None and self._thread != get_ident():
            raise sqlite3.ProgrammingError(
                "SQLite objects created in a thread can only be used in that same thread. The "
                f"object was created in thread id {self._thread} and this is thread id "
                f"{get_ident()}."
            )
        if not self._open:
            self.check_open()

    def check_open(self) -> None:
        """Raises unless the connection is open; any thread may ask."""
        if not self._initialised:
            raise sqlite3.ProgrammingError("Base Connection.__init__ not called.")
        if not self._open:
            raise sqlite3.ProgrammingError(CLOSED_DATABASE)

    def check_length(self, sql: str) -> None:
        """Raises for SQL longer than the connection's limit."""
        # A character is at most four bytes: most texts need no counting.
        if len(sql) * 4 > self._longest_sql and len(sql.encode()) > self._longest_sql:
            raise sqlite3.DataError("query string is too large")

    def check_statement(self, sql: str) -> bool:
        """Raises what is wrong with a statement, without running it; whether it only reads."""
        with self.use() as db:
            return statements.check(db, sql)

    def close(self) -> None:
        """Closes the connection, its cursors and blobs; a pending transaction is rolled back."""
        if self._initialised and not self._open:
            return  # closing twice is harmless
        with self.use() as db:
            if self._autocommit is False:
                db.execute("ROLLBACK")
            db.close(True)
            self._open = False

    # --- transactions ---------------------------------------------------------------------------

    @property
    def in_transaction(self) -> bool:
        """Whether a transaction is open."""
        self.check_open()
        with self.lock:
            return self._db.in_transaction

    @property
    def isolation_level(self) -> str | None:
        """How transactions begin: "", DEFERRED, IMMEDIATE, EXCLUSIVE; None: never by themselves."""
        self.check_open()
        return self._isolation_level

    @isolation_level.setter
    def isolation_level(self, level: str | None) -> None:
        if level is not None:
            _check_isolation_level(level)
        # Set even if the commit then fails, as in the standard library.
        self._isolation_level = level
        if level is None and self.in_transaction:
            self._run("COMMIT")

    @isolation_level.deleter
    def isolation_level(self) -> None:
        raise AttributeError("cannot delete attribute")

    @property
    def autocommit(self) -> int:
        """Python 3.12's transaction control: True, False, or LEGACY_TRANSACTION_CONTROL."""
        self.check_open()
        return self._autocommit

    @autocommit.setter
    def autocommit(self, value: int) -> None:
        self.check_usable()
        value = _check_autocommit(value)
        with self.lock:
            if value is True and self._db.in_transaction:
                self._run("COMMIT")
            elif value is False and not self._db.in_transaction:
                self._run("BEGIN")
            self._autocommit = value

    def commit(self) -> None:
        """Commits the pending transaction, if there is one."""
        self._finish("COMMIT")

    def rollback(self) -> None:
        """Rolls the pending transaction back, if there is one."""
        self._finish("ROLLBACK")

    def begin_implicitly(self, sql: str) -> None:
        """Opens a transaction for a statement that changes rows, unless told not to."""
        if (
            self._isolation_level is None
            or self._autocommit != LEGACY_TRANSACTION_CONTROL
            or self._db.in_transaction
        ):
            return
        self.check_statement(sql)  # what cannot be prepared opens no transaction
        self._run(f"BEGIN {self._isolation_level}")

    def commit_before_script(self) -> None:
        """Commits what is pending, as executescript does first."""
        if self._autocommit == LEGACY_TRANSACTION_CONTROL and self._db.in_transaction:
            self._run("COMMIT")

    def _finish(self, how: str) -> None:
        self.check_usable()
        if self._autocommit is True:
            return
        with self.lock:
            if self._db.in_transaction:
                self._run(how)
            if self._autocommit is False:
                self._run("BEGIN")

    def _run(self, sql: str) -> None:
        """Runs a statement of this interface's own."""
        with self.use() as db:
            self.running.cursor = _none
            db.execute(sql)


def _none() -> None:
    """What a dead weak reference gives."""


class Running:
    """The cursor which was the last to start a statement: what the trace callback is about.

    A weak reference: it must not keep alive a cursor, with its locks, that its owner has dropped.
    """

    __slots__ = ("cursor",)

    def __init__(self) -> None:
        self.cursor: Callable[[], apsw.Cursor | None] = _none


class Use:
    """A connection's APSW connection, its lock held, its errors translated."""

    __slots__ = ("_db", "_lock")

    def __init__(self, db: apsw.Connection, lock: threading.RLock) -> None:
        self._db = db
        self._lock = lock

    def __enter__(self) -> apsw.Connection:
        """The APSW connection."""
        self._lock.acquire()
        return self._db

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> None:
        """Lets the next thread in; raises the standard library's exception for one of APSW's."""
        self._lock.release()
        if isinstance(error, apsw.Error):
            raise translate(error) from error


def is_shared_memory(uri: str) -> bool:
    """Whether a URI names a memory database that connections share."""
    name, _, query = uri.partition("?")
    parameters = parse_qs(query)
    in_memory = name == "file::memory:" or parameters.get("mode") == ["memory"]
    return name.startswith("file:") and in_memory and parameters.get("cache") == ["shared"]


def _is_unicode(name: str) -> bool:
    try:
        name.encode()
    except UnicodeEncodeError:
        return False
    return True


def _check_isolation_level(level: object) -> None:
    if not isinstance(level, str):
        raise TypeError(f"isolation_level must be a string or None, not {type(level).__name__}")
    if str.upper(level) not in _ISOLATION_LEVELS:
        raise ValueError(
            "isolation_level string must be '', 'DEFERRED', 'IMMEDIATE', or 'EXCLUSIVE'"
        )


def _check_autocommit(value: Any) -> int:
    if value is True or value is False:
        return bool(value)
    if value == LEGACY_TRANSACTION_CONTROL:
        return LEGACY_TRANSACTION_CONTROL
    raise ValueError("autocommit must be True, False, or sqlite3.LEGACY_TRANSACTION_CONTROL")
