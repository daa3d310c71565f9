"""A Python generator as an eponymous virtual table: `select * from knn('clip', 42, 10)`.

The function's parameters are hidden columns, which is how SQLite passes the arguments of a
table-valued function. https://sqlite.org/vtab.html#tabfunc2
"""

from collections.abc import Callable, Iterable, Iterator
from typing import Any

import apsw

Rows = Callable[..., Iterable[tuple[Any, ...]]]


class TableFunctionModule:
    """The virtual table module of one table-valued function."""

    def __init__(
        self, columns: tuple[str, ...], parameters: tuple[str, ...], rows: Rows, estimated_rows: int
    ) -> None:
        self.columns = columns
        self.parameters = parameters
        self.rows = rows
        self.estimated_rows = estimated_rows
        visible = [f'"{name}"' for name in columns]
        hidden = [f'"{name}" hidden' for name in parameters]
        self.schema = f"create table ignored({', '.join(visible + hidden)})"

    def Connect(
        self, connection: apsw.Connection, module: str, database: str, table: str, *args: Any
    ) -> tuple[str, "TableFunction"]:
        """Called by SQLite once a connection; the table has no state of its own."""
        return self.schema, TableFunction(self)


class TableFunction:
    """Tells the query planner which arguments it has, and opens cursors."""

    def __init__(self, module: TableFunctionModule) -> None:
        self.module = module

    def BestIndexObject(self, plan: apsw.IndexInfo) -> bool:
        """Takes every `parameter = value` constraint; refuses plans that come before their arguments."""
        first_hidden = len(self.module.columns)
        given: list[int] = []
        for constraint in range(plan.nConstraint):
            column = plan.get_aConstraint_iColumn(constraint)
            if column < first_hidden:
                continue
            # In a lateral join the argument is another table's column: refusing the plans where that
            # table is not read yet makes SQLite find the order in which it is.
            if (
                not plan.get_aConstraint_usable(constraint)
                or plan.get_aConstraint_op(constraint) != apsw.SQLITE_INDEX_CONSTRAINT_EQ
                or column in given
            ):
                return False
            given.append(column)
            plan.set_aConstraintUsage_argvIndex(constraint, len(given))
            plan.set_aConstraintUsage_omit(constraint, True)
        plan.idxStr = ",".join(self.module.parameters[c - first_hidden] for c in given)
        plan.estimatedRows = self.module.estimated_rows
        # Each call computes anew, and SQLite takes a table without statistics for a small one: not even
        # ten calls may look cheaper than one call and a look-up for each of its rows.
        plan.estimatedCost = 1000.0 * (1 + self.module.estimated_rows)
        return True

    def Open(self) -> "TableFunctionCursor":
        """A new cursor: one place in the query's FROM."""
        return TableFunctionCursor(self.module)

    def Disconnect(self) -> None:
        """Nothing to free."""

    Destroy = Disconnect


class TableFunctionCursor:
    """Calls the function and walks over its rows."""

    def __init__(self, module: TableFunctionModule) -> None:
        self._module = module
        self._width = len(module.columns)
        self._arguments: dict[str, Any] = {}
        self._iterator: Iterator[tuple[Any, ...]] = iter(())
        self._row: tuple[Any, ...] | None = None
        self._rowid = 0

    def Filter(self, number: int, names: str | None, values: tuple[Any, ...] | None) -> None:
        """Called with the arguments of one call: once a query, or once a row of a lateral join."""
        self.Close()
        self._arguments = dict(zip(names.split(","), values or (), strict=True)) if names else {}
        self._iterator = iter(self._module.rows(**self._arguments))
        self._rowid = 0
        self.Next()

    def Eof(self) -> bool:
        """Whether the last row has been passed."""
        return self._row is None

    def Next(self) -> None:
        """Steps to the next row."""
        self._row = next(self._iterator, None)
        self._rowid += 1

    def Column(self, number: int) -> Any:
        """The value of one column: of the row, or an argument for a hidden column."""
        if 0 <= number < self._width:
            return self._row[number]  # type: ignore[index]  # SQLite asks Eof() first
        if number == -1:
            return self._rowid
        return self._arguments.get(self._module.parameters[number - self._width])

    def Rowid(self) -> int:
        """The row's number in this call, from 1."""
        return self._rowid

    def Close(self) -> None:
        """Ends the generator, so that it frees what it holds."""
        close = getattr(self._iterator, "close", None)
        self._iterator, self._row = iter(()), None
        if close is not None:
            close()
