"""What the items of a matrix are called: their labels, collections and contents, as numbers by place."""

from dataclasses import dataclass
from typing import Any, cast

import apsw
import numpy as np

from nearsql.udfs.arguments import shown, text
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.query_blocks import Ids


@dataclass(frozen=True, slots=True)
class Values:
    """A value for each of n items.

    codes: (n,), the value's number, -1 for an item without one. names: the values, in SQLite's order.
    """

    codes: Ids
    names: list[str]

    def of(self, place: int) -> str | None:
        """The value of the item at a place."""
        code = int(self.codes[place])
        return None if code < 0 else self.names[code]


def label_values(db: apsw.Connection, matrix: Matrix, label: str) -> Values:
    """The value that each item of the matrix has for a label.

    Raises SqlFunctionError, naming the labels there are, when none of them has it.
    """
    sql = (
        "select l.item_id, l.value from vectors v join item_labels l on l.item_id = v.item_id"
        " where v.space_id = ? and l.name = ?"
    )
    rows = cast(Any, db.execute(sql, (matrix.space.id, text("label", label))).fetchall())
    found = _values(matrix, rows)
    if not found.names:
        raise SqlFunctionError(_no_label(db, matrix, label))
    return found


def collections(db: apsw.Connection, matrix: Matrix) -> Values:
    """The collection of each item of the matrix."""
    return _values(matrix, _column_of_items(db, matrix, "collection"))


def same_content(db: apsw.Connection, matrix: Matrix) -> Ids:
    """The place of the first item of the matrix with the same bytes, by their SHA-256, (n,)."""
    codes = _values(matrix, _column_of_items(db, matrix, "sha256")).codes
    _, first, which = np.unique(codes, return_index=True, return_inverse=True)
    return first[which]


def _column_of_items(db: apsw.Connection, matrix: Matrix, column: str) -> list[tuple[int, str]]:
    sql = (
        f"select i.id, i.{column} from vectors v join items i on i.id = v.item_id"
        " where v.space_id = ?"
    )
    return cast(Any, db.execute(sql, (matrix.space.id,)).fetchall())


def _values(matrix: Matrix, rows: list[tuple[int, str]]) -> Values:
    """The values of (item id, value), of those items that the matrix has."""
    there = dict(rows)
    of_items = [there.get(item) for item in matrix.ids.tolist()]
    names = sorted({value for value in of_items if value is not None}, key=str.encode)
    numbers = {name: number for number, name in enumerate(names)}
    codes = [-1 if value is None else numbers[value] for value in of_items]
    return Values(np.array(codes, np.int64), names)


def _no_label(db: apsw.Connection, matrix: Matrix, label: Any) -> str:
    sql = (
        "select distinct l.name from item_labels l join vectors v on v.item_id = l.item_id"
        " where v.space_id = ? order by 1 limit 11"
    )
    names = [str(name) for (name,) in cast(Any, db.execute(sql, (matrix.space.id,)))]
    there_are = (
        "the labels are " + ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        if names
        else "they have no labels yet, see `nearsql ingest --help`"
    )
    return f"no item of space '{matrix.space.name}' has a label {shown(label)}: {there_are}"
