"""sqlite-utils on nearsql's SQLite: `sqlite-utils query FILE "select * from knn(...)"`.

Two SQLite libraries must not open one file in one process (they break each other's locks), so
sqlite-utils, too, is made to open files through the face, where it itself swaps in pysqlite3.
"""

import sqlite3
import sys
import warnings
from typing import Any

import sqlite_utils.db
import sqlite_utils.utils
from sqlite_utils import hookimpl

from nearsql.migrations import file_state
from nearsql.udfs import dbapi
from nearsql.udfs.connection import prepare

sqlite_utils.db.sqlite3 = dbapi  # type: ignore[attr-defined]
sqlite_utils.utils.sqlite3 = dbapi  # type: ignore[attr-defined]


@hookimpl
def register_commands(cli: Any) -> None:
    """Called while sqlite_utils.cli is being imported: the moment to change its sqlite3, too."""
    sys.modules["sqlite_utils.cli"].sqlite3 = dbapi  # type: ignore[attr-defined]


@hookimpl
def prepare_connection(conn: Any) -> None:
    """Offers nearsql's functions on every connection that sqlite-utils opens."""
    if isinstance(conn, dbapi.Connection):
        prepare(conn)
    elif isinstance(conn, sqlite3.Connection) and file_state(conn).state == "current":
        # The process's first Database(path) is opened before plugins are loaded.
        warnings.warn(
            "this Database was opened by the standard sqlite3 before nearsql's plugin was loaded, "
            "without nearsql's functions: use Database(nearsql.connect(path))",
            stacklevel=4,
        )
