"""Texts into a collection: from a table in a file, or from standard input."""

import hashlib
import os
import stat
import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, BinaryIO

from nearsql.pipeline.console import UserError, progress
from nearsql.pipeline.ingest import tables
from nearsql.pipeline.ingest.again import Brought, items_again, known_items
from nearsql.pipeline.ingest.tables import Format, Record
from nearsql.pipeline.ingest.writer import Arrival, IngestResult, Problem, Writer, as_json
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.pipeline.runs import RunInput, run
from nearsql.udfs import dbapi

STANDARD_INPUT = "-"
_LARGEST_INTEGER = 2**63 - 1


class _NotAnItem(Exception):
    """A record that makes no item; the sentence says why."""


@dataclass(frozen=True, slots=True)
class _Columns:
    """Which columns mean what; the others are metadata."""

    text: str
    label: str | None
    sequence: str | None

    def check(self, there: list[str], delimiter: str | None) -> None:
        """Raises UserError when one of them is not there."""
        for name in (self.text, self.label, self.sequence):
            if name is not None and name not in there:
                raise UserError(
                    f"there is no column {name!r}: {_list(there)}{_hint(there, delimiter)}"
                )


def ingest_texts(
    db: dbapi.Connection,
    source: str | os.PathLike[str],
    *,
    text: str,
    label: str | None = None,
    sequence: str | None = None,
    collection: str | None = None,
    format: Format | None = None,
    delimiter: str | None = None,
    encoding: str = "utf-8",
    quiet: bool = True,
) -> IngestResult:
    """Brings the texts of a table's column into a collection, one item a row.

    source: a CSV, TSV, JSON lines or JSON file, or "-" for standard input. text, label, sequence: the
    columns with the text, with each item's label (the column's name is the label's name) and with its
    sequence number; all other columns become the item's metadata. collection: default, the file's
    name without its suffix. format: default, what the file's name tells.

    A row without a usable text becomes an `item_errors` row that names its line; the rest goes on.
    Raises UserError when the table cannot be read at all, or lacks a column.
    """
    columns = _Columns(text, label or None, sequence or None)
    is_standard_input = os.fspath(source) == STANDARD_INPUT
    path = "standard input" if is_standard_input else os.path.abspath(source)
    if is_standard_input and (format is None or collection is None):
        raise UserError("standard input has no name: give --format and --collection")
    if path.encode("utf-8", "replace").decode() != path:
        raise UserError("the file's name is not valid UTF-8: rename it")
    format = format or tables.format_of(path)
    collection = collection or Path(path).stem
    parameters = {
        "source": path,
        "source_kind": "standard input" if is_standard_input else "table",
        "collection": collection,
        "text": columns.text,
        "label": columns.label,
        "sequence": columns.sequence,
        "format": format,
        "delimiter": delimiter,
        "encoding": encoding,
    }
    inputs = [] if is_standard_input else [RunInput("file", path)]
    with _opened(path, is_standard_input) as (file, size):
        table = tables.Source(path, file)
        records = _checked_records(table, columns, format, encoding, delimiter)
        with run(db, "ingest", parameters=parameters, inputs=inputs) as current:
            writer = Writer(current, collection, "table")
            with progress(f"reading {Path(path).name} (bytes)", size, quiet=quiet) as bar:
                shown = 0
                for record in records:
                    writer.add(_arrival(record, path, columns))
                    if table.bytes_read > shown:
                        bar.advance(table.bytes_read - shown)
                        shown = table.bytes_read
            return writer.finish()


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """What the recorded run would bring now: reads the table again."""
    parameters = recorded.parameters
    if parameters["source_kind"] == "standard input":
        raise CannotReplay(f"run {recorded.id} read standard input, which is not kept")
    path = parameters["source"]
    try:
        # The path comes from the database: nothing but a regular file is opened.
        if not stat.S_ISREG(os.stat(path).st_mode):
            raise CannotReplay(f"{path}, which run {recorded.id} read, is not a regular file")
    except (OSError, ValueError) as error:
        raise CannotReplay(f"{path}, which run {recorded.id} read, is gone: {error}") from error
    columns = _Columns(parameters["text"], parameters["label"], parameters["sequence"])
    brought = known_items(db, recorded)
    found: list[Brought] = []
    try:
        with _opened(path, False) as (file, _):
            table = tables.Source(path, file)
            records = _checked_records(
                table,
                columns,
                parameters["format"],
                parameters["encoding"],
                parameters["delimiter"],
            )
            for record in records:
                row = _arrival(record, path, columns)
                if isinstance(row, Arrival) and row.sha256 in brought:
                    recorded_number = brought.pop(row.sha256)[0]
                    number = recorded_number if columns.sequence is None else row.sequence_number
                    assert number is not None
                    label = row.labels.get(columns.label or "")
                    found.append((row.sha256, number, label, row.metadata_json))
    except UserError as error:
        raise CannotReplay(f"the table cannot be read as run {recorded.id} did: {error}") from error
    if brought:
        raise CannotReplay(
            f"{len(brought):,} of the texts that run {recorded.id} brought are no longer in {path}"
        )
    return items_again(db, recorded, found)


@contextmanager
def _opened(path: str, is_standard_input: bool) -> Iterator[tuple[BinaryIO, int]]:
    """The file and its size in bytes, 0 when that is not known."""
    if is_standard_input:
        yield sys.stdin.buffer, 0
        return
    try:
        file = open(path, "rb")  # noqa: SIM115 - closed below, opened here for the sentence
    except (OSError, ValueError) as error:
        reason = error.strerror if isinstance(error, OSError) else error
        raise UserError(f"{path} cannot be opened: {reason}") from error
    with file:
        yield file, os.fstat(file.fileno()).st_size


def _checked_records(
    table: tables.Source,
    columns: _Columns,
    format: Format,
    encoding: str,
    delimiter: str | None,
) -> Iterator[Record]:
    """The records, once the columns are known to be there: by the header, or by the first object."""
    header, records = tables.read_records(table, format, encoding=encoding, delimiter=delimiter)
    if header is not None:
        columns.check(header, delimiter)
    first = []
    for record in records:
        first.append(record)
        if record.problem is None:
            if header is None:
                columns.check(list(record.cells), delimiter)
            break
    if not first:
        raise UserError(f"{table.name} holds no rows")
    return chain(first, records)


def _arrival(record: Record, path: str, columns: _Columns) -> Arrival | Problem:
    """One record as an item, or what is wrong with it."""
    uri = f"{path}#{record.place.replace(' ', '=')}"
    if record.problem is not None:
        return Problem(uri, "read", f"{record.place}: {record.problem}")
    try:
        content = _text(record.cells, columns.text)
        labels = {}
        if columns.label is not None and (value := _label(record.cells, columns.label)) is not None:
            labels[columns.label] = value
        number = None
        if columns.sequence is not None:
            number = _sequence_number(record.cells, columns.sequence)
        metadata_json = _metadata_json(record.cells, columns)
    except _NotAnItem as error:
        return Problem(uri, "read", f"{record.place}: {error}")
    return Arrival(
        "text",
        hashlib.sha256(content.encode()).hexdigest(),
        uri,
        content=content,
        sequence_number=number,
        labels=labels,
        metadata_json=metadata_json,
    )


def _text(cells: Mapping[str, Any], column: str) -> str:
    value = cells.get(column)
    if value is None and column not in cells:
        raise _NotAnItem(f"it has no {column!r}: {_list(list(cells))}")
    if value is None or (isinstance(value, str) and not value.strip()):
        raise _NotAnItem(f"{column!r} is empty")
    if not isinstance(value, str):
        raise _NotAnItem(f"{column!r} is {_kind(value)}, not a text")
    return _storable(value, column)


def _label(cells: Mapping[str, Any], column: str) -> str | None:
    """The label's value; None when the cell is empty. JSON's numbers and booleans are spelled as there."""
    value = cells.get(column)
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return _storable(value, column)
    raise _NotAnItem(f"{column!r} is {_kind(value)}, not a label")


def _sequence_number(cells: Mapping[str, Any], column: str) -> int:
    value = cells.get(column)
    if isinstance(value, str) and value.strip().isascii() and value.strip().isdigit():
        value = int(value) if len(value) < 30 else None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= _LARGEST_INTEGER:
        raise _NotAnItem(
            f"{column!r} must be a whole number of at least 0, not {str(cells.get(column))[:40]!r}"
        )
    return value


def _metadata_json(cells: Mapping[str, Any], columns: _Columns) -> str:
    used = (columns.text, columns.label, columns.sequence)
    try:
        return as_json({name: value for name, value in cells.items() if name not in used})
    except UnicodeEncodeError as error:
        raise _NotAnItem(
            "its other columns cannot be kept: half of a surrogate pair is no text"
        ) from error
    except RecursionError as error:
        raise _NotAnItem("its other columns cannot be kept: they are nested too deep") from error
    except ValueError as error:
        raise _NotAnItem(f"its other columns cannot be kept: {error}") from error


def _storable(value: str, column: str) -> str:
    """The text, refused when SQLite could not give it back as it is."""
    if "\0" in value:
        raise _NotAnItem(
            f"{column!r} holds a NUL character, at which SQLite would cut the text off"
        )
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise _NotAnItem(f"{column!r} is not valid Unicode: {error.reason}") from error
    return value


def _kind(value: Any) -> str:
    if isinstance(value, bool):
        return "true or false"
    if isinstance(value, int | float):
        return "a number"
    return "a list" if isinstance(value, list) else "an object"


def _list(columns: list[str]) -> str:
    if len(columns) == 1:
        return f"the only column is {columns[0]!r}"
    return "the columns are " + ", ".join(repr(name) for name in columns)


def _hint(columns: list[str], delimiter: str | None) -> str:
    """A table that was split at the wrong character shows as one column with the right one in it."""
    if len(columns) == 1 and delimiter is None:
        for candidate in (";", "\t", "|", ","):
            if candidate in columns[0]:
                return f"; if its cells end in {candidate!r}, give --delimiter {candidate!r}"
    return ""
