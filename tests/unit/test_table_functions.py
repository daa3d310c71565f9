"""A Python generator behaves in SQL as a table-valued function should."""

import apsw
import pytest

from nearsql.udfs.table_functions import TableFunctionModule


@pytest.fixture
def calls() -> list[dict[str, object]]:
    return []


@pytest.fixture
def raw(calls: list[dict[str, object]]) -> apsw.Connection:
    def count(start: int, stop: int = 10):
        calls.append({"start": start, "stop": stop})
        yield from ((i, i * i) for i in range(start, stop))

    connection = apsw.Connection(":memory:")
    module = TableFunctionModule(("n", "square"), ("start", "stop"), count, 10)
    connection.create_module(
        "count_up", module, use_bestindex_object=True, eponymous_only=True, read_only=True
    )
    connection.execute("create table t (id integer primary key, other)")
    connection.executemany("insert into t values (?, ?)", [(i, i + 1) for i in range(5)])
    return connection


def rows(raw: apsw.Connection, sql: str) -> list[tuple[object, ...]]:
    return raw.execute(sql).fetchall()


def test_positional_and_named_arguments(raw: apsw.Connection) -> None:
    assert rows(raw, "select * from count_up(1, 3)") == [(1, 1), (2, 4)]
    assert rows(raw, "select n from count_up where start = 8") == [(8,), (9,)]
    assert rows(raw, "select n from count_up(8) where stop = 9") == [(8,)]
    assert rows(raw, "select n, start, stop from count_up(8, 9)") == [(8, 8, 9)]


def test_lateral_join_in_either_order(raw: apsw.Connection) -> None:
    expected = [(i, i) for i in range(5)]
    for tables in ("t, count_up(t.id, t.other) c", "count_up(t.id, t.other) c, t"):
        assert rows(raw, f"select t.id, c.n from {tables} order by 1") == expected


def test_left_join_keeps_rows_without_match(raw: apsw.Connection) -> None:
    sql = "select t.id, c.n from t left join count_up(t.id, 2) c order by 1, 2"
    assert rows(raw, sql) == [(0, 0), (0, 1), (1, 1), (2, None), (3, None), (4, None)]


def test_joined_to_a_table_it_is_called_once(
    raw: apsw.Connection, calls: list[dict[str, object]]
) -> None:
    assert rows(raw, "select t.other from count_up(1, 4) c join t on t.id = c.n") == [
        (2,),
        (3,),
        (4,),
    ]
    assert len(calls) == 1


def test_a_table_that_only_looks_small_does_not_make_it_be_called_for_each_row(
    raw: apsw.Connection, calls: list[dict[str, object]]
) -> None:
    """Without statistics, SQLite takes an index for one that finds ten rows."""
    raw.execute("create table labels (id, name, primary key (id, name)) without rowid")
    raw.execute("create index labels_name on labels (name)")
    raw.execute("insert into labels select n, 'same' from count_up(0, 100)")
    calls.clear()
    joined = "count_up(0, 50) c join labels l on l.id = c.n and l.name = 'same'"
    assert rows(raw, f"select count(*) from {joined}") == [(50,)]
    assert len(calls) == 1


def test_limit_stops_the_generator(raw: apsw.Connection) -> None:
    assert rows(raw, "select n from count_up(0, 9223372036854775807) limit 2") == [(0,), (1,)]


def test_in_asks_once_for_each_value(raw: apsw.Connection, calls: list[dict[str, object]]) -> None:
    assert rows(raw, "select n from count_up where start in (8, 9) order by n") == [
        (8,),
        (9,),
        (9,),
    ]
    assert len(calls) == 2


def test_filters_on_columns_are_applied(raw: apsw.Connection) -> None:
    assert rows(raw, "select n from count_up(0) where square > 60") == [(8,), (9,)]
    assert rows(raw, "select rowid, n from count_up(5, 7)") == [(1, 5), (2, 6)]


def test_it_cannot_be_written(raw: apsw.Connection) -> None:
    with pytest.raises(apsw.SQLError, match="may not be modified"):
        raw.execute("delete from count_up")
