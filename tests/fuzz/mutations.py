"""Files as nobody would write them, made from ones that somebody did."""

import json
import re
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

from hypothesis import strategies as st

Change = Callable[[bytes], bytes]

# What readers of text stumble over, put anywhere.
TOKENS = (
    b"",
    b"\0",
    b"\xff\xfe",
    b"\xef\xbb\xbf",
    b"\xc3",
    b'"',
    b"'",
    b"\n",
    b"\r",
    b"\r\n",
    b",",
    b"\t",
    b";",
    b"[",
    b"]]",
    b"{}",
    b"null",
    b"true",
    b"NaN",
    b"-Infinity",
    b"1e999",
    b"-1",
    b"-0",
    b"0.5",
    b"1_000",
    b"0x10",
    b"9223372036854775808",
    b"1" * 400,
    b"9" * 5000,
    b"\\ud800",
    b"\\u0000",
    "٣".encode(),
    "é".encode("latin-1"),
    b"[" * 3000,
    b'{"a":' * 3000,
    b"a" * 70_000,
    b"../../etc/passwd",
    b"/dev/zero",
    b"!!python/object/apply:os.system ['true']",
    b"&a [*a]",
    b"<<: *x",
)
_NUMBER = re.compile(rb"-?\d+(?:\.\d+)?")
NUMBERS = (b"-1", b"0", b"1e999", b"nan", b"1e-320", b"4294967296", b"9223372036854775808", b"2.5")

# What stands in place of any value of a JSON document.
VALUES: tuple[Any, ...] = (
    None,
    True,
    "",
    "a",
    "\ud800",
    "\0",
    -1,
    0,
    1.5,
    1e300,
    float("nan"),
    float("inf"),
    2**53 + 1,
    2**63,
    10**400,
    [],
    {},
    [[]],
    [None],
    {"a": 1},
    [1, 2, 3, 4, 5, 6],
    "1",
    "x" * 3000,
)

_places = st.integers(0, 2**31)


def _put(place: int, token: bytes) -> Change:
    return lambda data: (at := place % (len(data) + 1), data[:at] + token + data[at:])[1]


def _over(place: int, token: bytes) -> Change:
    return lambda data: (
        at := place % (len(data) + 1),
        data[:at] + token + data[at + len(token) :],
    )[1]


def _flip(place: int, bit: int) -> Change:
    def change(data: bytes) -> bytes:
        if not data:
            return data
        at = place % len(data)
        return data[:at] + bytes([data[at] ^ (1 << bit)]) + data[at + 1 :]

    return change


def _cut(place: int, length: int) -> Change:
    return lambda data: (at := place % (len(data) + 1), data[:at] + data[at + length :])[1]


def _end(place: int) -> Change:
    return lambda data: data[: place % (len(data) + 1)]


def _twice(place: int, length: int) -> Change:
    return lambda data: (at := place % (len(data) + 1), data[: at + length] + data[at:])[1]


def _number(which: int, number: bytes) -> Change:
    def change(data: bytes) -> bytes:
        found = list(_NUMBER.finditer(data))
        if not found:
            return data
        match = found[which % len(found)]
        return data[: match.start()] + number + data[match.end() :]

    return change


_any_bytes = st.one_of(
    st.builds(_put, _places, st.sampled_from(TOKENS)),
    st.builds(_over, _places, st.binary(min_size=1, max_size=8)),
    st.builds(_flip, _places, st.integers(0, 7)),
    st.builds(_cut, _places, st.integers(1, 40)),
    st.builds(_end, _places),
    st.builds(_twice, _places, st.integers(1, 200)),
    st.builds(_number, _places, st.sampled_from(NUMBERS)),
)


def _json_value(which: int, value: Any) -> Change:
    """One value of a JSON document, or of the lines of one, is another."""

    def change(data: bytes) -> bytes:
        try:
            document = json.loads(data)
            return json.dumps(_with(document, which, value)).encode()
        except (ValueError, RecursionError):
            lines = data.split(b"\n")
        try:
            at = which % len(lines)
            lines[at] = json.dumps(_with(json.loads(lines[at]), which, value)).encode()
        except (ValueError, RecursionError):
            return data
        return b"\n".join(lines)

    return change


def _with(document: Any, which: int, value: Any) -> Any:
    places: list[tuple[Any, Any]] = []

    def walk(node: Any) -> None:
        keys: Any = range(len(node)) if isinstance(node, list) else node
        if isinstance(node, list | dict):
            for key in keys:
                places.append((node, key))
                walk(node[key])

    walk(document)
    if not places:
        return value
    node, key = places[which % len(places)]
    node[key] = value
    return document


def _cell(which: int, value: Any) -> Change:
    """One cell of an SQLite file, of any of its tables, is another: neither types, nor CHECKs, nor triggers
    stand in the way of somebody who means it."""

    def change(data: bytes) -> bytes:
        try:
            with closing(sqlite3.connect(":memory:")) as db:
                db.deserialize(without_rules(data))
                return _with_cell(db, which, value)
        except (sqlite3.Error, UnicodeError, MemoryError):
            return data  # an earlier change has left nothing that could be read, or nothing at all

    return change


def without_rules(data: bytes) -> bytes:
    """The SQLite file, in which any column takes any value, and nothing is triggered."""
    with closing(sqlite3.connect(":memory:")) as db:
        db.deserialize(data)
        db.execute("pragma writable_schema = on")
        db.execute(
            "update sqlite_schema set sql = replace(replace(sql, 'strict, without', 'without'),"
            " ') strict', ')') where type = 'table'"
        )
        db.execute("delete from sqlite_schema where type = 'trigger'")
        db.commit()
        return db.serialize()


def _with_cell(db: sqlite3.Connection, which: int, value: Any) -> bytes:
    db.execute("pragma ignore_check_constraints = on")
    names = "select name from sqlite_schema where type = 'table' and sql not like '%virtual%'"
    cells = []
    for (table,) in db.execute(names).fetchall():
        (rows,) = db.execute(f'select count(*) from "{table}"').fetchone()
        for _, column, *_ in db.execute(f'pragma table_info("{table}")').fetchall():
            if rows:
                cells.append((table, column, rows))
    if not cells:
        return db.serialize()
    table, column, rows = cells[which % len(cells)]
    found = db.execute(f'select * from "{table}" limit 1 offset ?', (which // len(cells) % rows,))
    row = found.fetchone()
    here = " and ".join(f'"{each[0]}" is ?' for each in found.description)
    db.execute(f'update "{table}" set "{column}" = ? where {here}', (value, *row))
    db.commit()
    return db.serialize()


_CELLS: tuple[Any, ...] = (
    *(None, "", "a", "\0", "{}", "[]", "[" * 2000, "{", -1, 0, 2**63 - 1, -(2**63), 1e300),
    *(
        float("inf"),
        b"",
        b"\0",
        b"\xff" * 16,
        b"\0\0\xc0\x7f" * 4,
        b"\x93NUMPY\x01\0",
        b"\x80\x04.",
    ),
)

_STRUCTURED = {
    "json": st.builds(_json_value, _places, st.sampled_from(VALUES)),
    "sqlite": st.builds(_cell, _places, st.sampled_from(_CELLS)),
}


def kind_of(data: bytes) -> str:
    """What a file is, for changes that keep its form."""
    if data.startswith(b"SQLite format 3"):
        return "sqlite"
    return "json" if data.lstrip()[:1] in (b"{", b"[") else "bytes"


@st.composite
def mutated(draw: st.DrawFn, files: dict[str, bytes]) -> dict[str, bytes]:
    """The files, one of them changed in one to four places."""
    name = draw(st.sampled_from(sorted(files)))
    changes: Sequence[st.SearchStrategy[Change]] = [_any_bytes]
    structured = _STRUCTURED.get(kind_of(files[name]))
    if structured is not None:
        changes = [structured, structured, _any_bytes]
    data = files[name]
    for change in draw(st.lists(st.one_of(changes), min_size=1, max_size=4)):
        data = change(data)
    return {**files, name: data}
