"""Rows on standard output: as a table for people, as JSON, JSON lines or CSV for pipes."""

import base64
import csv
import json
import sys
from collections.abc import Iterable, Sequence
from typing import Any, TextIO

from nearsql.pipeline.console import UserError, table
from nearsql.udfs import dbapi

FORMATS = ("table", "json", "nl", "csv")


def column_names(cursor: dbapi.Cursor) -> list[str]:
    """The names of the columns that a cursor gives; none for a statement without rows."""
    return [column[0] for column in cursor.description or ()]


def write_rows(
    format_: str,
    headers: Sequence[str],
    rows: Iterable[Sequence[Any]],
    out: TextIO | None = None,
) -> None:
    """Writes rows in one of FORMATS. JSON, lines and CSV stream; a table is gathered first.

    BLOBs are as sqlite-utils writes and reads them: {"$base64": true, "encoded": ...} in JSON, base64
    in CSV.
    """
    out = out or sys.stdout
    if format_ in ("json", "nl"):
        headers = _distinct(headers)
    if format_ == "table":
        print(table(headers, rows), file=out)
    elif format_ == "csv":
        # Without carriage returns, which `sort`, `xargs` and `while read` take for part of the last cell.
        writer = csv.writer(out, lineterminator="\n")
        writer.writerow(headers)
        for row in rows:
            writer.writerow([_base64(v) if isinstance(v, bytes) else v for v in row])
    elif format_ == "nl":
        for row in rows:
            print(_json_object(headers, row), file=out)
    else:
        separator = "["
        for row in rows:
            print(separator + _json_object(headers, row), end="", file=out)
            separator = ",\n "
        print("]" if separator != "[" else "[]", file=out)


def _distinct(headers: Sequence[str]) -> list[str]:
    """An object has each key once: a second `id` becomes `id_2`, as in sqlite-utils."""
    found: list[str] = []
    for header in headers:
        name, number = header, 1
        while name in found:
            number += 1
            name = f"{header}_{number}"
        found.append(name)
    return found


def _json_object(headers: Sequence[str], row: Sequence[Any]) -> str:
    values = dict(zip(headers, map(_json_value, row), strict=True))
    try:
        return json.dumps(values, ensure_ascii=False, allow_nan=False)
    except ValueError:
        raise UserError(f"JSON has no infinity: use --csv for the row {row}") from None


def _json_value(value: Any) -> Any:
    return {"$base64": True, "encoded": _base64(value)} if isinstance(value, bytes) else value


def _base64(value: bytes) -> str:
    return base64.b64encode(value).decode("ascii")
