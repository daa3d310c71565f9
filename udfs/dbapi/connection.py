"""The DB-API 2 connection, and `connect`, which makes one."""

import os
import sqlite3
from collections.abc import Callable, Iterable
from types import TracebackType
from typing import Any, ClassVar, Literal, Self, TypeVar, overload

from nearsql.udfs.dbapi import statements
from nearsql.udfs.dbapi.blob import Blob
from nearsql.udfs.dbapi.callbacks import Callbacks
from nearsql.udfs.dbapi.cursor import Cursor
from nearsql.udfs.dbapi.maintenance import Maintenance
from nearsql.udfs.dbapi.session import LEGACY_TRANSACTION_CONTROL, is_shared_memory

Database = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_Cursor = TypeVar("_Cursor", bound=Cursor)


class Connection(Callbacks, Maintenance):
    """A connection with the interface of sqlite3.Connection, over APSW's SQLite."""

    Warning: ClassVar = sqlite3.Warning
    Error: ClassVar = sqlite3.Error
    InterfaceError: ClassVar = sqlite3.InterfaceError
    DatabaseError: ClassVar = sqlite3.DatabaseError
    DataError: ClassVar = sqlite3.DataError
    OperationalError: ClassVar = sqlite3.OperationalError
    IntegrityError: ClassVar = sqlite3.IntegrityError
    InternalError: ClassVar = sqlite3.InternalError
    ProgrammingError: ClassVar = sqlite3.ProgrammingError
    NotSupportedError: ClassVar = sqlite3.NotSupportedError

    def __init__(
        self,
        database: Database,
        timeout: float = 5.0,
        detect_types: int = 0,
        isolation_level: str | None = "",
        check_same_thread: bool = True,
        factory: Any = None,
        cached_statements: int = 128,
        uri: bool = False,
        *,
        autocommit: int = LEGACY_TRANSACTION_CONTROL,
    ) -> None:
        super().__init__(
            database,
            timeout,
            detect_types,
            isolation_level,
            check_same_thread,
            cached_statements,
            uri,
            autocommit,
        )

    def __call__(self, *sql: str) -> str:
        """Checks one SQL statement by preparing it; its text again."""
        self.check_usable()
        (text,) = sql
        if not isinstance(text, str):
            raise TypeError(f"argument 1 must be str, not {type(text).__name__}")
        self.check_length(text)
        statements.parse(text)
        self.check_statement(text)
        return text

    @overload
    def cursor(self) -> Cursor: ...
    @overload
    def cursor(self, factory: Callable[["Connection"], _Cursor]) -> _Cursor: ...
    def cursor(self, factory: Callable[["Connection"], Any] = Cursor) -> Any:
        """A new cursor, with this connection's row factory."""
        self.check_usable()
        made = factory(self)
        # Not isinstance, which believes an object that only claims to be a cursor.
        if not issubclass(type(made), Cursor):
            raise TypeError(f"factory must return a cursor, not {type(made).__name__}")
        if self.row_factory is not None:
            made.row_factory = self.row_factory
        return made

    def execute(self, sql: str, parameters: Any = (), /) -> Cursor:
        """Runs one statement on a new cursor, which it returns."""
        return self.cursor().execute(sql, parameters)

    def executemany(self, sql: str, parameters: Iterable[Any], /) -> Cursor:
        """Runs one statement for each set of parameters, on a new cursor, which it returns."""
        return self.cursor().executemany(sql, parameters)

    def executescript(self, sql_script: str, /) -> Cursor:
        """Runs any number of statements on a new cursor, which it returns."""
        return self.cursor().executescript(sql_script)

    def blobopen(
        self,
        table: str,
        column: str,
        row: int,
        /,
        *,
        readonly: bool = False,
        name: str = "main",
    ) -> Blob:
        """Opens the BLOB or TEXT in one row, given by its rowid, for reading and writing."""
        with self.use() as db:
            return Blob(self, db.blob_open(name, table, column, row, not readonly))

    def interrupt(self) -> None:
        """Stops what the connection is running, which fails as interrupted; from any thread."""
        self.check_open()
        self._db.interrupt()

    @property
    def total_changes(self) -> int:
        """The number of rows changed since the connection was opened."""
        self.check_open()
        with self.lock:
            return self._db.total_changes()

    def __enter__(self) -> Self:
        """The connection itself; leaving the block commits, or rolls back after an error."""
        self.check_usable()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Literal[False]:
        """Commits; rolls back after an error, or when committing fails."""
        if kind is not None:
            self.rollback()
            return False
        try:
            self.commit()
        except BaseException:
            self.rollback()
            raise
        return False


def connect(
    database: Database,
    timeout: float = 5.0,
    detect_types: int = 0,
    isolation_level: str | None = "",
    check_same_thread: bool = True,
    factory: Any = Connection,
    cached_statements: int = 128,
    uri: bool = False,
    *,
    autocommit: int = LEGACY_TRANSACTION_CONTROL,
) -> Connection:
    """Opens a database file, or makes it, as sqlite3.connect does.

    A named memory database shared between connections (`file:name?mode=memory&cache=shared`)
    comes from the standard library, since APSW is built without a shared cache. It involves no
    file, so the two SQLite libraries cannot disturb each other there; but the connection is then
    a sqlite3.Connection, without `.apsw`.
    """
    options: dict[str, Any] = {
        "timeout": timeout,
        "detect_types": detect_types,
        "isolation_level": isolation_level,
        "check_same_thread": check_same_thread,
        "cached_statements": cached_statements,
        "uri": uri,
    }
    if autocommit != LEGACY_TRANSACTION_CONTROL:
        options["autocommit"] = autocommit
    if factory is Connection and uri and is_shared_memory(os.fsdecode(database)):
        return sqlite3.connect(database, **options)
    made: Connection = factory(database, factory=factory, **options)
    return made
