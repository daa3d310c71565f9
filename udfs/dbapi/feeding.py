"""What a cursor gives to APSW's and takes from it: sets of parameters one by one, rows that nobody reads."""

from collections.abc import Iterable, Iterator
from typing import Any

import apsw

from nearsql.udfs.dbapi import parameters


def has_row(source: apsw.Cursor) -> bool:
    """Whether a statement stands on a row, so that not running but reading it failed."""
    try:
        source.get_description()
    except apsw.ExecutionCompleteError:
        return False
    return True


def drain(source: apsw.Cursor) -> None:
    """Runs to the end, whatever text the rows hold."""
    while True:
        try:
            for _ in source:
                pass
            return
        except UnicodeDecodeError:
            if not has_row(source):
                raise


class Feed:
    """The sets of parameters of an executemany, adapted one by one; counts what each changed.

    APSW asks for the next set when the statement has finished with the last one.
    """

    def __init__(self, connection: apsw.Connection, sets: Iterable[Any]) -> None:
        self.error: BaseException | None = None  # raised by the program's iterator or an adapter
        self.last: Any = ()
        self.changes = 0
        self._connection = connection
        self._sets = iter(sets)

    def __iter__(self) -> Iterator[Any]:
        changes = self._connection.changes
        bindings = parameters.bindings
        try:
            for values in self._sets:
                self.last = given = bindings(values)
                yield given
                self.changes += changes()
        except GeneratorExit:
            raise
        except BaseException as error:
            self.error = error
            raise
