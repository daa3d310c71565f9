"""Rows have one hash however they come, and different rows different ones."""

import hashlib
import struct
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline.row_hash import RowHash, hash_rows


def test_hash_rows_tells_rows_apart() -> None:
    different = [
        [],
        [(1, "2")],
        [("1", 2)],
        [(1, None)],
        [(1, "None")],
        [(1.0,)],
        [(1,)],
        [(b"1",)],
        [("ab", "c")],
        [("a", "bc")],
        [("a",), ("b",)],
        [("a", "b")],
        [(0.1,)],
        [(0.1 + 2**-56,)],
    ]
    assert len({hash_rows(rows) for rows in different}) == len(different)
    assert hash_rows(iter([(1, 0.5)])) == hash_rows([(1, 0.5)])


def plainly(rows: list[tuple[Any, ...]]) -> str:
    """Values one by one: their length, and what they are."""
    digest = hashlib.sha256()
    for row in rows:
        for value in row:
            data = repr(value).encode()
            if isinstance(value, float):
                data = b"f" + struct.pack("<d", value)
            elif isinstance(value, bytes):
                data = b"b" + value
            digest.update(struct.pack("<q", len(data)) + data)
        digest.update(b"\n")
    return digest.hexdigest()


cells = st.one_of(st.none(), st.integers(), st.floats(), st.text(), st.binary(max_size=99))


@given(st.lists(st.lists(cells, max_size=5).map(tuple), max_size=9), st.integers(0, 300))
def test_rows_are_hashed_value_by_value(rows: list[tuple[Any, ...]], repeats: int) -> None:
    rows = rows * repeats
    assert hash_rows(rows) == plainly(rows)
    digest = RowHash()
    for number, row in enumerate(rows[:5], start=1):
        digest.add(row)
        assert digest.hexdigest() == plainly(rows[:number])  # and goes on
