"""Selections: named sets of items. What may be one, and how one is stored, for every face alike."""

import json
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql
from nearsql.udfs.within import is_json, is_question

LONGEST_NAME = 200


class SelectionError(ValueError):
    """A sentence that says why something cannot be a selection, or its name."""


@dataclass(frozen=True, slots=True)
class Making:
    """How the items of a selection were chosen.

    sql: the SELECT, where how is 'sql'. polygon_json: its corners [[x, y], ...] on the map of
    projection_run_id, where how is 'polygon'.
    """

    name: str
    how: Literal["sql", "ids", "polygon"]
    sql: str | None = None
    note: str | None = None
    polygon_json: str | None = None
    projection_run_id: int | None = None


def refuse_name(name: str) -> None:
    """Raises SelectionError for what cannot be a name: `within` takes it for SQL or JSON, or it has no end."""
    if not name.strip() or name != name.strip() or not name.isprintable():
        raise SelectionError(
            f"{name!r} is no name for a selection: give a word, or several, on one line"
        )
    if len(name) > LONGEST_NAME:
        raise SelectionError(
            f"a selection's name has at most {LONGEST_NAME} characters, not {len(name)}"
        )
    if name == "-":
        raise SelectionError("'-' is no name for a selection: it stands for standard input")
    if is_json(name) or is_question(name):
        raise SelectionError(
            f"{name!r} is no name for a selection: where items are limited it would be taken for SQL or"
            " JSON, by how it begins"
        )


def refuse_strangers(db: dbapi.Connection, ids: NDArray[np.int64]) -> None:
    """Raises SelectionError where one of the ids (n,) is that of no item."""
    row = db.execute(
        "select value, count(*) over () from json_each(?)"
        " where value not in (select id from items) limit 1",
        (json.dumps(ids.tolist()),),
    ).fetchone()
    if row is not None:
        first, n = row
        others = f", nor are {n - 1:,} others" if n > 1 else ""
        raise SelectionError(f"{first} is not the id of an item of this file{others}")


def find_selection(db: dbapi.Connection, name: str) -> int | None:
    """The id of the selection with this name."""
    row = db.execute("select id from selections where name = ?", (name,)).fetchone()
    return None if row is None else int(row[0])


def store_selection(db: dbapi.Connection, making: Making, ids: NDArray[np.int64]) -> int:
    """Stores a selection of the items (n,), in the place of one with its name; gives its id.

    Belongs to the caller's transaction, and the ids must be those of items: see refuse_strangers.
    """
    made = {name: getattr(making, name) for name in Making.__slots__}
    (selection,) = db.execute(read_sql(__package__, "selection_make"), made).fetchone()
    db.execute("delete from selection_items where selection_id = ?", (selection,))
    db.execute(
        "insert into selection_items (selection_id, item_id) select ?, value from json_each(?)",
        (selection, json.dumps(ids.tolist())),
    )
    return int(selection)
