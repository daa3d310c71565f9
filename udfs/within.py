"""Which items a search is limited to: the `within` argument of the table-valued functions.

A SELECT of item ids, a JSON array of them, or the name of a selection, whose items are stored.
"""

import contextlib
import re
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.arguments import json_value, shown
from nearsql.udfs.errors import SqlFunctionError

_COMMENT = re.compile(r"\s+|--[^\n]*(\n|$)|/\*.*?(\*/|$)", re.DOTALL)
_QUESTION = re.compile(r"(select|with|values)\b", re.IGNORECASE)


def item_ids(db: apsw.Connection, within: Any) -> NDArray[np.int64] | None:
    """The item ids that `within` names, unsorted and as often as named; None for NULL: no limit.

    within: a SELECT (or WITH, VALUES) whose first column are item ids, or a JSON array of them, or the
    name of a selection. The SELECT sees what the calling statement sees, its transaction's changes
    included.
    """
    if within is None:
        return None
    if not isinstance(within, str) or not within.strip():
        raise SqlFunctionError(
            "within must be a SELECT of item ids, a JSON array of them, or the name of a selection,"
            f" not {shown(within)}"
        )
    if is_json(within):
        values = json_array("within", within)
    elif is_question(within):
        values = [row[0] for row in select("within", db, within)]
    else:
        return _selected(db, within)
    return as_ids("within", values)


def is_question(within: str) -> bool:
    """Whether the text is taken for SQL: it begins with SELECT, WITH or VALUES, after any comments."""
    return _QUESTION.match(_without_leading_comments(within)) is not None


def is_json(within: str) -> bool:
    """Whether the text is taken for a JSON array: it begins as one."""
    return within.lstrip().startswith("[")


def _selected(db: apsw.Connection, name: str) -> NDArray[np.int64]:
    """The items of a selection, by id. Raises SqlFunctionError, naming the selections there are."""
    row = db.execute("select id from selections where name = ?", (name,)).fetchone()
    if row is None:
        names = [
            str(n) for (n,) in db.execute("select name from selections order by name limit 11")
        ]
        there_are = (
            f"the selections are {', '.join(names[:10])}{', ...' if len(names) > 10 else ''}; or give"
            if names
            else "this database has none; give"
        )
        raise SqlFunctionError(
            f"within: there is no selection {shown(name)}: {there_are} a SELECT, WITH or VALUES of"
            " item ids, or a JSON array of them"
        )
    items = db.execute(
        "select item_id from selection_items where selection_id = ? order by item_id", row
    )
    return np.array([item for (item,) in cast(Any, items)], np.int64)


def as_ids(name: str, values: list[Any]) -> NDArray[np.int64]:
    """The values as item ids, refusing the first that is not a whole number."""
    if set(map(type, values)) <= {int}:
        with contextlib.suppress(OverflowError):
            return np.array(values, np.int64)
    for value in values:
        if type(value) is not int or not -(2**63) <= value < 2**63:
            raise SqlFunctionError(
                f"{name} must give item ids (whole numbers), and gave {shown(value)}"
            )
    raise AssertionError("one of the values is not an item id")


def json_array(name: str, text: str) -> list[Any]:
    """The JSON array in a text."""
    found = json_value(name, text)
    if not isinstance(found, list):
        raise SqlFunctionError(f"{name} must be a JSON array, not {shown(text)}")
    return found


def select(name: str, db: apsw.Connection, sql: str) -> list[tuple[Any, ...]]:
    """The rows of one read-only SELECT, WITH or VALUES statement, run on the same connection.

    Anything else is refused before its first step: it may come from somebody who may only read.
    """
    if not is_question(sql):
        raise SqlFunctionError(
            f"{name} must begin with SELECT, WITH or VALUES, or be a JSON array, not {shown(sql)}"
        )
    refusal = ""
    statements = 0

    def check(cursor: apsw.Cursor, statement: str, bindings: Any) -> bool:
        # APSW calls this for each statement of the text, prepared but not stepped.
        nonlocal refusal, statements
        if not _without_leading_comments(statement):
            return True  # a comment at the end
        statements += 1
        if statements > 1:
            refusal = f"{name} must be one statement, and goes on with {shown(statement)}"
        elif not cursor.is_readonly:
            refusal = f"{name} must only read, and {shown(statement)} would write"
        return not refusal

    cursor = db.cursor()
    cursor.exec_trace = check
    try:
        return cast(Any, list(cursor.execute(sql)))
    except apsw.ExecTraceAbort:
        raise SqlFunctionError(refusal) from None
    except (apsw.SQLError, apsw.BindingsError) as error:
        raise SqlFunctionError(f"{name}: {error}, in {shown(sql)}") from error
    except UnicodeDecodeError as error:
        raise SqlFunctionError(
            f"{name}: a text that it selects is not UTF-8 (byte {error.object[error.start]:#04x} at"
            f" {error.start}), in {shown(sql)}"
        ) from error
    finally:
        cursor.close(True)


def _without_leading_comments(sql: str) -> str:
    while match := _COMMENT.match(sql):
        sql = sql[match.end() :]
    return sql
