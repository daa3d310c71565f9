"""Select: named sets of items, chosen by SQL or given as ids, to be used wherever items are limited.

    select(db, "red cars", sql="select item_id from item_labels where value = 'red'")
    db.execute("select * from knn('clip', 42, 10, 'red cars')")

What is stored is how the items were chosen, and the items themselves: a selection stays as it is when the
database changes, until it is made again.
"""

import json
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Literal

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.runs import immediate
from nearsql.udfs import dbapi
from nearsql.udfs.arguments import shown
from nearsql.udfs.selections import (
    Making,
    SelectionError,
    find_selection,
    refuse_name,
    refuse_strangers,
    store_selection,
)
from nearsql.udfs.sql_files import read_sql
from nearsql.udfs.within import as_ids, is_question, json_array
from nearsql.udfs.within import select as rows_of

# Names that an item's id may have in an object, best first.
_ID_KEYS = ("item_id", "id")


@dataclass(frozen=True, slots=True)
class Selection:
    """A stored selection. how: 'sql', 'ids', or 'polygon' (drawn on a map); sql: the SELECT of the first."""

    id: int
    name: str
    how: Literal["sql", "ids", "polygon"]
    items: int
    sql: str | None
    note: str | None
    created_at: str


def select(
    db: dbapi.Connection,
    name: str,
    *,
    sql: str | None = None,
    ids: Sequence[int] | None = None,
    note: str | None = None,
    replace: bool = False,
) -> Selection:
    """Stores the items that a SELECT names by the first of its columns, or those of the ids.

    Each item counts once. Raises UserError for a name that is taken (unless replace) or that `within`
    would take for something else, for ids of no item, and when there are none; SqlFunctionError for SQL
    that is no SELECT, or whose first column holds anything but ids.
    """
    with _sentences():
        refuse_name(name)
    if (sql is None) == (ids is None):
        raise UserError("a selection is made by one of --sql and --ids")
    if sql is not None and not is_question(sql):
        raise UserError(f"--sql must begin with SELECT, WITH or VALUES, and not {shown(sql)}")
    if sql is not None:
        wanted = as_ids("the SELECT", [row[0] for row in rows_of("the SQL", db.apsw, sql)])
    else:
        wanted = as_ids("--ids", list(ids or ()))
    wanted = np.unique(wanted)
    if not len(wanted):
        raise UserError(f"the selection {name!r} would have no items")
    making = Making(name, "ids" if sql is None else "sql", sql=sql, note=note)
    with _sentences(), immediate(db):
        refuse_strangers(db, wanted)
        if find_selection(db, name) is not None and not replace:
            raise UserError(f"there is a selection {name!r} already: --replace makes it anew")
        store_selection(db, making, wanted)
    return find(db, name)


def selections(db: dbapi.Connection) -> list[Selection]:
    """All there are, by name."""
    sql = f"{read_sql(__package__, 'select_list')} order by s.name"
    return [Selection(*row) for row in db.execute(sql)]


def find(db: dbapi.Connection, name: str) -> Selection:
    """The selection of that name. Raises LookupError, naming those there are."""
    sql = f"{read_sql(__package__, 'select_list')} where s.name = ?"
    row = db.execute(sql, (name,)).fetchone()
    if row is None:
        names = [found.name for found in selections(db)]
        there_are = ", ".join(names[:10]) + (", ..." if len(names) > 10 else "")
        raise LookupError(
            f"there is no selection {name!r}: the selections are {there_are or 'none'}"
        )
    return Selection(*row)


def items_of(db: dbapi.Connection, selection: Selection) -> dbapi.Cursor:
    """The selection's items, by id: what each is, and its labels as a JSON object."""
    return db.execute(read_sql(__package__, "select_items"), (selection.id,))


def runs_over(db: dbapi.Connection, name: str) -> list[int]:
    """The finished runs that were limited to the selection of that name."""
    rows = db.execute(
        "select id from runs where parameters_json ->> 'within' = ? and status = 'finished' order by id",
        (name,),
    )
    return [run for (run,) in rows]


def drop(db: dbapi.Connection, name: str) -> Selection:
    """Removes a selection, and no item; gives what it was. Raises LookupError when there is none."""
    with immediate(db):
        found = find(db, name)
        db.execute("delete from selections where id = ?", (found.id,))
    return found


def read_ids(text: str, *, option: str = "--ids") -> list[int]:
    """The ids in a text: a JSON array, JSON lines, CSV with a header, or numbers apart by spaces or commas.

    In objects and under a header they are called item_id or id. option: what errors name. Raises UserError
    for anything else, and SqlFunctionError for a JSON array that is none.
    """
    text = text.strip().removeprefix("\ufeff")
    if text.startswith("["):
        return [_id_of(value, option) for value in json_array(option, text)]
    if text.startswith("{"):
        return [
            _id_of(_json_line(line, option), option) for line in text.splitlines() if line.strip()
        ]
    header = text.partition("\n")[0].strip()
    if any(key in header.split(",") for key in _ID_KEYS):
        return _of_csv(text, option)
    return [_number(word, option) for word in text.replace(",", " ").split()]


@contextmanager
def _sentences() -> Iterator[None]:
    """What cannot be a selection is the user's to mend."""
    try:
        yield
    except SelectionError as error:
        raise UserError(str(error)) from None


def _of_csv(text: str, option: str) -> list[int]:
    import csv

    rows = csv.DictReader(text.splitlines())
    try:
        column = next((key for key in _ID_KEYS if key in (rows.fieldnames or ())), None)
        if column is None:
            raise UserError(f"{option}: the header of the CSV has a quote that is not closed")
        return [_number(row[column] or "", option) for row in rows]
    except csv.Error as error:
        raise UserError(f"{option} cannot be read as CSV: {error}") from None


def _json_line(line: str, option: str) -> Any:
    try:
        return json.loads(line)
    except (ValueError, RecursionError):
        raise UserError(f"{option}: {line[:60]!r} is no line of JSON") from None


def _id_of(value: Any, option: str) -> int:
    """The id that a JSON value is, or has."""
    if isinstance(value, dict):
        value = next((value[key] for key in _ID_KEYS if key in value), None)
    if type(value) is not int:
        raise UserError(
            f"{option}: {json.dumps(value)[:60]} is no item id: give whole numbers, or objects with item_id or id"
        )
    return value


def _number(word: str, option: str) -> int:
    try:
        if not word.isascii() or "_" in word:
            raise ValueError
        return int(word)
    except ValueError:
        raise UserError(
            f"{option}: {word[:60]!r} is no item id: give whole numbers, JSON, or CSV with a column item_id or id"
        ) from None
