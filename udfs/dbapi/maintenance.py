"""What a connection does with a whole database: dump, backup, serialize, limits, extensions."""

import sqlite3
import time
from collections.abc import Callable, Iterator
from sqlite3.dump import _iterdump  # type: ignore[attr-defined]
from typing import Any

import apsw

from nearsql.udfs.dbapi.session import Session


class Maintenance(Session):
    """The methods of a connection that concern the whole database."""

    def iterdump(self, **options: Any) -> Iterator[str]:
        """The SQL that makes this database again, statement by statement."""
        self.check_usable()
        dumped: Iterator[str] = _iterdump(self, **options)
        return dumped

    def backup(
        self,
        target: Session,
        *,
        pages: int = -1,
        progress: Callable[[int, int, int], Any] | None = None,
        name: str = "main",
        sleep: float = 0.25,
    ) -> None:
        """Copies the database into another connection's, `pages` pages at a time.

        progress: called after each step with its status, the pages left and the pages in all.
        sleep: seconds to wait before trying again when the source is locked.
        """
        self.check_usable()
        if not isinstance(target, Maintenance):
            raise TypeError(f"backup() argument 1 must be Connection, not {type(target).__name__}")
        target.check_usable()
        if target is self:
            raise ValueError("target cannot be the same connection instance")
        if progress is not None and not callable(progress):
            raise TypeError("progress argument must be a callable")
        if target.in_transaction:
            raise sqlite3.OperationalError("target is in transaction")
        with self.use() as source, target.use() as destination:
            copy = destination.backup("main", source, name)
        try:
            while not copy.done:
                with self.use(), target.use():
                    status = _copy_pages(copy, pages)
                # Without the locks: it may be another thread that has to end its transaction.
                if progress is not None:
                    progress(status, copy.remaining, copy.page_count)
                if status in (apsw.SQLITE_BUSY, apsw.SQLITE_LOCKED):
                    time.sleep(sleep)
        finally:
            with self.lock, target.lock:
                copy.close(True)

    def serialize(self, *, name: str = "main") -> bytes:
        """The database as the bytes of a file."""
        with self.use() as db:
            return db.serialize(name)

    def deserialize(self, data: Any, /, *, name: str = "main") -> None:
        """Replaces the database by the bytes of a file."""
        with self.use() as db:
            db.deserialize(name, data)

    def getlimit(self, category: int, /) -> int:
        """The value of a run-time limit, one of the SQLITE_LIMIT_ constants."""
        return self._limit(category, -1)

    def setlimit(self, category: int, limit: int, /) -> int:
        """Changes a run-time limit; its value before."""
        before = self._limit(category, limit)
        self._longest_sql = self._limit(apsw.SQLITE_LIMIT_SQL_LENGTH, -1)
        return before

    def _limit(self, category: int, value: int) -> int:
        with self.use() as db:
            before = db.limit(category, value)
        if before < 0:
            raise sqlite3.ProgrammingError("'category' is out of bounds")
        return before

    def getconfig(self, op: int, /) -> bool:
        """The value of a boolean configuration option (Python 3.12)."""
        return self._config(op, -1)

    def setconfig(self, op: int, enable: bool = True, /) -> None:
        """Sets a boolean configuration option (Python 3.12)."""
        if self._config(op, int(enable)) != enable:
            raise sqlite3.OperationalError("Unable to set config")

    def _config(self, op: int, value: int) -> bool:
        with self.use() as db:
            try:
                return bool(db.config(op, value))
            except (apsw.Error, ValueError) as error:
                raise ValueError(f"unknown config 'op': {op}") from error

    def enable_load_extension(self, enable: bool, /) -> None:
        """Allows loading extensions into this connection."""
        with self.use() as db:
            db.enable_load_extension(bool(enable))

    def load_extension(self, name: str, /, *, entrypoint: str | None = None) -> None:
        """Loads an extension from a shared library."""
        with self.use() as db:
            db.load_extension(name, entrypoint)


def _copy_pages(copy: apsw.Backup, pages: int) -> int:
    """One step of a backup; its status."""
    try:
        done = copy.step(pages or -1)
    except apsw.BusyError:
        return apsw.SQLITE_BUSY
    except apsw.LockedError:
        return apsw.SQLITE_LOCKED
    return apsw.SQLITE_DONE if done else apsw.SQLITE_OK
