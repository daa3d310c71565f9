"""Rows as the standard library gives them: converted values, decoded text, real sqlite3.Row."""

import re
import sqlite3
import threading
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache, partial
from typing import Any

import apsw

from nearsql.udfs.dbapi.statements import Columns

Converter = Callable[[bytes], Any]
Description = tuple[tuple[str, None, None, None, None, None, None], ...]

_TYPE_IN_NAME = re.compile(r"\[(.*?)\]", re.DOTALL)
_NAME_BEFORE_TYPE = re.compile(r" ?\[.*", re.DOTALL)
_FIRST_WORD = re.compile(r"[^ (]*")


def description(columns: Columns, detect_types: int) -> Description | None:
    """The columns in DB-API 2 form: seven values each, of which SQLite knows the name."""
    if not columns:
        return None
    if detect_types & sqlite3.PARSE_COLNAMES:
        columns = tuple((_NAME_BEFORE_TYPE.sub("", name), kind) for name, kind in columns)
    return tuple((name, None, None, None, None, None, None) for name, _ in columns)


def converters(columns: Columns, detect_types: int) -> list[Converter | None] | None:
    """The registered converter of each column; None when no column has one."""
    found = [_converter(name, kind, detect_types) for name, kind in columns]
    return found if any(found) else None


def _converter(name: str, kind: str | None, detect_types: int) -> Converter | None:
    registered: dict[str, Converter] = sqlite3.converters
    if detect_types & sqlite3.PARSE_COLNAMES and (found := _TYPE_IN_NAME.search(name)):
        converter = registered.get(found[1].upper())
        if converter is not None:
            return converter
    if detect_types & sqlite3.PARSE_DECLTYPES and kind and (word := _FIRST_WORD.match(kind)):
        return registered.get(word[0].upper())
    return None


def convert(
    row: Sequence[Any],
    text_factory: Callable[[bytes], Any],
    found: list[Converter | None] | None,
) -> tuple[Any, ...]:
    """A row through its converters and the text factory."""
    if found is None:
        return tuple(
            [text_factory(value.encode()) if type(value) is str else value for value in row]
        )
    return tuple(
        [
            _converted(value, text_factory, converter)
            for value, converter in zip(row, found, strict=True)
        ]
    )


def _converted(
    value: Any, text_factory: Callable[[bytes], Any], converter: Converter | None
) -> Any:
    if converter is not None:
        return None if _is_null(value) else converter(_as_blob(value))
    if type(value) is str and text_factory is not str:
        return text_factory(value.encode())
    return value


def _is_null(value: Any) -> bool:
    """Whether SQLite gives no bytes: for NULL, and for an empty TEXT or BLOB."""
    return value is None or value == b"" or value == ""


def _as_blob(value: Any) -> bytes:
    """The bytes SQLite gives when a value of any type is read as a BLOB."""
    if isinstance(value, bytes):
        return value
    if isinstance(value, float):
        return _float_text(value)
    return str(value).encode()


_scratch_lock = threading.Lock()
_scratch: list[apsw.Connection] = []


def _float_text(value: float) -> bytes:
    """A float as SQLite writes it (1.0e+100), which is not quite how Python does (1e+100)."""
    with _scratch_lock:
        if not _scratch:
            _scratch.append(apsw.Connection(":memory:"))
        return str(_scratch[0].execute("select cast(? as text)", (value,)).get).encode()


# --- text that is not UTF-8 ---------------------------------------------------------------------


def raw_text_query(sql: str, width: int, offset: int) -> str:
    """A query for the same rows from `offset` on, with each value's TEXT as a BLOB and a flag.

    APSW decodes text itself and has no way to hand out the bytes, so SQL must.
    """
    names = ",".join(f"c{i}" for i in range(width))
    values = ",".join(
        f"iif(typeof(c{i})='text',cast(c{i} as blob),c{i}),typeof(c{i})='text'"
        for i in range(width)
    )
    return f"with q({names}) as ({sql.rstrip().rstrip(';')}\n) select {values} from q limit -1 offset {offset}"


def convert_raw(
    row: Sequence[Any],
    columns: Columns,
    text_factory: Callable[[bytes], Any],
    found: list[Converter | None] | None,
) -> tuple[Any, ...]:
    """A row of a `raw_text_query` through its converters and the text factory."""
    values: list[Any] = []
    for i, (name, _) in enumerate(columns):
        value, is_text = row[2 * i], row[2 * i + 1]
        converter = found[i] if found else None
        if converter is not None:
            value = None if _is_null(value) else converter(_as_blob(value))
        elif is_text:
            value = decode(value, name) if text_factory is str else text_factory(value)
        values.append(value)
    return tuple(values)


def decode(value: bytes, column: str) -> str:
    """TEXT as str; bytes that are not UTF-8 are an error that shows them."""
    try:
        return value.decode()
    except UnicodeDecodeError as error:
        raise undecodable(column, value) from error


def undecodable(column: str, value: bytes) -> sqlite3.OperationalError:
    """The error for TEXT that is not UTF-8."""
    shown = value.decode("utf-8", "replace")
    return sqlite3.OperationalError(
        f"Could not decode to UTF-8 column '{column}' with text '{shown}'"
    )


# --- sqlite3.Row --------------------------------------------------------------------------------


def row_maker(factory: type[sqlite3.Row], names: Iterable[str]) -> Callable[[Any], sqlite3.Row]:
    """A function from a tuple to a real sqlite3.Row (or subclass) with these column names.

    The standard library makes a Row only from its own cursor, of which it reads nothing but the
    description: a cursor of the standard library over no rows, with the same names, serves.
    """
    shadow = _shadow(tuple(names))
    return partial(factory, shadow)


@lru_cache(maxsize=1)
def _shadow_connection() -> sqlite3.Connection:
    return sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)


@lru_cache(maxsize=512)
def _shadow(names: tuple[str, ...]) -> sqlite3.Cursor:
    values = ",".join('null as "' + name.replace('"', '""') + '"' for name in names)
    return _shadow_connection().execute(f"select {values} limit 0")
