"""The standard library's `sqlite3` module over APSW's SQLite.

Everything written for `sqlite3` works with this module in its place: the same functions, classes
and constants; exceptions and rows that are the standard library's own. The SQLite below is APSW's,
which is newer, can load extensions everywhere, and is the only one that nearsql opens files with:
two SQLite libraries in one process undo each other's file locks.

    >>> from nearsql.udfs import dbapi
    >>> db = dbapi.connect(":memory:")
    >>> db.execute("select sqlite_version() = ?", (dbapi.sqlite_version,)).fetchone()
    (1,)
    >>> db.apsw.pragma("user_version")
    0

What differs from the standard library is listed in docs/compatibility.md.
"""

import sqlite3
import sqlite3.dbapi2
import sys
import warnings
from sqlite3 import (
    PARSE_COLNAMES,
    PARSE_DECLTYPES,
    Binary,
    DatabaseError,
    DataError,
    Date,
    DateFromTicks,
    Error,
    IntegrityError,
    InterfaceError,
    InternalError,
    NotSupportedError,
    OperationalError,
    PrepareProtocol,
    ProgrammingError,
    Row,
    Time,
    TimeFromTicks,
    TimestampFromTicks,
    Warning,
    adapt,
    apilevel,
    paramstyle,
    register_adapter,
    register_converter,
)
from typing import Any

import apsw

from nearsql.udfs.dbapi.blob import Blob
from nearsql.udfs.dbapi.callbacks import enable_callback_tracebacks
from nearsql.udfs.dbapi.connection import Connection, connect
from nearsql.udfs.dbapi.cursor import Cursor
from nearsql.udfs.dbapi.session import LEGACY_TRANSACTION_CONTROL

__all__ = [
    "LEGACY_TRANSACTION_CONTROL",
    "PARSE_COLNAMES",
    "PARSE_DECLTYPES",
    "Binary",
    "Blob",
    "Connection",
    "Cursor",
    "DataError",
    "DatabaseError",
    "Date",
    "DateFromTicks",
    "Error",
    "IntegrityError",
    "InterfaceError",
    "InternalError",
    "NotSupportedError",
    "OperationalError",
    "PrepareProtocol",
    "ProgrammingError",
    "Row",
    "Time",
    "TimeFromTicks",
    "Timestamp",
    "TimestampFromTicks",
    "Warning",
    "adapt",
    "adapters",
    "apilevel",
    "complete_statement",
    "connect",
    "converters",
    "dbapi2",
    "enable_callback_tracebacks",
    "enable_shared_cache",
    "paramstyle",
    "register_adapter",
    "register_converter",
    "sqlite_version",
    "sqlite_version_info",
    "threadsafety",
]

# The registries are the standard library's own: an adapter registered there serves here too.
adapters = sqlite3.adapters
converters = sqlite3.converters

sqlite_version = apsw.sqlite_lib_version()
sqlite_version_info = tuple(int(part) for part in sqlite_version.split("."))
threadsafety = sqlite3.threadsafety
Timestamp = sqlite3.dbapi2.Timestamp

# Programs also import sqlite3.dbapi2.
dbapi2 = sys.modules[__name__]


def complete_statement(statement: str) -> bool:
    """Whether a text ends with a complete SQL statement."""
    return apsw.complete(statement)


def enable_shared_cache(do_enable: bool, /) -> None:
    """Does nothing: APSW's SQLite is built without the shared cache, which SQLite discourages."""
    warnings.warn("the shared cache is deprecated", DeprecationWarning, stacklevel=2)


def __getattr__(name: str) -> Any:
    """The SQLITE_ constants, of APSW's newer SQLite first; and the rest of the standard module."""
    if name.startswith("SQLITE_"):
        value = getattr(apsw, name, None)
        if isinstance(value, int):
            return value
    if name in vars(sqlite3) and not name.startswith("_"):
        return getattr(sqlite3, name)
    if name in ("OptimizedUnicode", "version", "version_info"):
        # Deprecated, and warned of by the standard library, which would blame this line.
        with warnings.catch_warnings(record=True) as caught:
            value = getattr(sqlite3, name)
        for warning in caught:
            warnings.warn(str(warning.message), warning.category, stacklevel=2)
        return value
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
