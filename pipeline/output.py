"""Rows on standard output: as a table for people, as JSON, JSON lines or CSV for pipes."""

import base64
import csv
import json
import select
import sys
from collections.abc import Iterable, Sequence
from typing import Any, Self, TextIO

from nearsql.pipeline.console import UserError, table
from nearsql.udfs import dbapi

FORMATS = ("table", "json", "nl", "csv")
# Bytes that reach a pipe whole, whoever else writes to it; Windows has no such promise.
_WHOLE = getattr(select, "PIPE_BUF", 4096)


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

    Lines and CSV are written by whole lines, so that of several processes that write to one pipe
    (`xargs -P`) no line is torn: up to 4,096 bytes on Linux, 512 on macOS.

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
        with _WholeLines(out) as lines:
            writer = csv.writer(lines, lineterminator="\n")
            writer.writerow(headers)
            for row in rows:
                writer.writerow([_base64(v) if isinstance(v, bytes) else v for v in row])
    elif format_ == "nl":
        with _WholeLines(out) as lines:
            for row in rows:
                lines.write(_json_object(headers, row) + "\n")
    else:
        separator = "["
        for row in rows:
            print(separator + _json_object(headers, row), end="", file=out)
            separator = ",\n "
        print("]" if separator != "[" else "[]", file=out)


class _WholeLines:
    """Lines on their way to `out`, as many at a time as a pipe takes whole.

    Python's own buffer ends anywhere in a line, and without it (PYTHONUNBUFFERED) each end of a line
    goes alone.
    """

    def __init__(self, out: TextIO) -> None:
        self._out = out
        self._waiting: list[str] = []
        self._most = 0 if out.isatty() else _WHOLE  # on a terminal each line at once
        self._room = self._most

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        """What waits goes out after an error, too: it was read before."""
        self._send()

    def write(self, line: str) -> None:
        """Takes a line with its end."""
        size = len(line) if line.isascii() else len(line.encode("utf-8", "surrogatepass"))
        if size > self._room:
            self._send()
        self._waiting.append(line)
        self._room -= size
        if self._room <= 0:
            self._send()

    def _send(self) -> None:
        self._out.write("".join(self._waiting))
        self._out.flush()
        self._waiting.clear()
        self._room = self._most


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
