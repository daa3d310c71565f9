"""How a result that came out again is compared with the stored one."""

import struct
from typing import Any

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline.result_tables import (
    Again,
    Comparison,
    Difference,
    ResultTable,
    compare,
    stored_by_item,
)
from nearsql.pipeline.row_hash import hash_rows
from nearsql.udfs import dbapi

VALUES = st.one_of(
    st.none(), st.integers(0, 3), st.sampled_from([0.0, 0.5, 1.0]), st.sampled_from(["", "a"])
)
# By (item, level), each at most once.
TABLES = st.dictionaries(
    st.tuples(st.integers(0, 6), st.integers(1, 2)), st.tuples(VALUES, VALUES), max_size=14
)
COLUMNS = ("item", "level", "a", "b")


def rows_of(table: dict[tuple[int, int], tuple[Any, Any]]) -> list[tuple[Any, ...]]:
    return sorted(((*key, *values) for key, values in table.items()), key=lambda row: row[:2])


def compared(stored: Any, again: Any, n_first: int = 100, **more: Any) -> tuple[str, Comparison]:
    table = ResultTable("t", COLUMNS, 2, iter(stored), iter(again), **more)
    sha256, (found,) = compare(Again([table]), n_first)
    return sha256, found


@given(TABLES, TABLES, st.integers(0, 5))
def test_it_finds_what_two_dictionaries_tell(
    stored: dict[Any, Any], again: dict[Any, Any], n_first: int
) -> None:
    sha256, found = compared(rows_of(stored), rows_of(again), n_first)
    assert sha256 == hash_rows(rows_of(again))

    def told(values: Any) -> str:
        return repr(values)  # 1 is not 1.0

    both = stored.keys() & again.keys()
    changed = {key for key in both if told(stored[key]) != told(again[key])}
    assert (found.stored, found.again) == (len(stored), len(again))
    assert found.changed == len(changed)
    assert found.missing == len(stored.keys() - again.keys())
    assert found.added == len(again.keys() - stored.keys())
    assert found.rows == len(stored.keys() | again.keys())
    expected = {}
    for key in changed:
        for column, one, other in zip("ab", stored[key], again[key], strict=True):
            if isinstance(one, float) and isinstance(other, float) and one != other:
                expected[column] = max(expected.get(column, 0.0), abs(one - other))
    assert found.largest == expected
    in_order = sorted(changed | (stored.keys() ^ again.keys()))
    told_of = list(dict.fromkeys(tuple(d.row.values()) for d in found.first))
    assert told_of == in_order[: len(told_of)]
    assert len(found.first) <= n_first


def test_a_difference_says_where_and_by_how_much() -> None:
    stored = [(1, 1, 0.25, b"\0" * 8), (2, 1, 5, None)]
    blob = struct.pack("<2f", 0.5, -2.0)
    again = [(1, 1, 0.75, blob), (3, 1, 5, None)]
    _, found = compared(stored, again, numbers={"b": "<f4"})
    assert found.first == [
        Difference("t", {"item": 1, "level": 1}, "a", 0.25, 0.75, 0.5),
        Difference("t", {"item": 1, "level": 1}, "b", b"\0" * 8, blob, 2.0),
        Difference("t", {"item": 2, "level": 1}, None, {"a": 5, "b": None}, None),
        Difference("t", {"item": 3, "level": 1}, None, None, {"a": 5, "b": None}),
    ]
    assert found.largest == {"a": 0.5, "b": 2.0}
    assert (found.different, found.rows) == (3, 3)


def test_what_is_no_distance_is_none() -> None:
    nan = np.array([np.nan, 1], "<f4").tobytes()
    for one, other in ((b"", b"1234"), (b"123", b"456"), (nan, b"\0" * 8), ("a", "b"), (1, 2)):
        _, found = compared([(1, 1, None, one)], [(1, 1, None, other)], numbers={"b": "<f4"})
        assert [d.by for d in found.first] == [None]
        assert found.largest == {}


def test_parts_of_a_table_are_counted_together_and_may_have_another_hash() -> None:
    def tables() -> Any:
        for item in range(3):
            gone_through.append(item)
            yield ResultTable("t", COLUMNS, 2, [(item, 1, 0, 0)], [(item, 1, 0, item)])
            yield ResultTable("u", ("item",), 1, [], [(item,)])

    gone_through: list[int] = []
    sha256, found = compare(Again(tables(), lambda: f"after {gone_through}"), 1)
    assert sha256 == "after [0, 1, 2]"
    assert [(c.table, c.rows, c.changed, c.added, len(c.first)) for c in found] == [
        ("t", 3, 2, 0, 1),
        ("u", 3, 0, 3, 1),
    ]


def test_stored_rows_are_read_some_items_at_a_time(db: dbapi.Connection) -> None:
    db.execute("create table t (run_id, item_id, value)")
    db.executemany(
        "insert into t values (?, ?, ?)", [(r, n, n % 3) for r in (1, 2) for n in range(2500)]
    )
    db.commit()
    sql = (
        "select item_id, value from t where run_id = :run and item_id between :first and :last"
        " order by item_id"
    )
    rows = stored_by_item(db, sql, 1, range(2500))
    first = next(rows)
    assert first == (0, 0)
    db.execute("alter table t add column more")  # which an open cursor would not allow
    assert [first, *rows] == [(n, n % 3) for n in range(2500)]
    assert list(stored_by_item(db, sql, 1, [])) == []
