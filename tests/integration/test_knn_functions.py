"""knn, knn_batch and knn_graph through SQL: rows, joins, filters, refusals."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest

from nearsql.udfs import connection, dbapi

Fill = Callable[..., int]

PLANE = np.array([[0, 0], [1, 0], [0, 2], [3, 0], [1, 0]], np.float32)


def rows(db: dbapi.Connection, sql: str, *parameters: Any) -> list[Any]:
    return [tuple(row) for row in db.execute(sql, parameters).fetchall()]


@pytest.fixture(scope="module")
def plane() -> Iterator[dbapi.Connection]:
    """Five items, 1 to 5, in a plane; items 2 and 5 are duplicates. Tests leave it as it is."""
    db = connection.create(":memory:")
    db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('plane', 'metric', 2, 'l2')"
    )
    for item, vector in enumerate(PLANE, start=1):
        db.execute(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'tests', ?, 'x', 0)",
            (item, f"{item:064x}"),
        )
        db.execute(
            "insert into vectors (space_id, item_id, vector) values (1, ?, ?)",
            (item, vector.tobytes()),
        )
    db.commit()
    yield db
    db.close()


def test_an_item_finds_others_and_ties_come_by_id(plane: dbapi.Connection) -> None:
    assert rows(plane, "select id, distance, rank from knn('plane', 1, 4)") == [
        (2, 1.0, 1),
        (5, 1.0, 2),
        (3, 2.0, 3),
        (4, 3.0, 4),
    ]


def test_an_item_is_left_out_by_its_id_not_by_its_distance(plane: dbapi.Connection) -> None:
    assert rows(plane, "select id, distance from knn('plane', 2, 1)") == [(5, 0.0)]
    assert rows(plane, "select id, distance from knn('plane', 5, 1)") == [(2, 0.0)]


@pytest.mark.parametrize("query", ["[1, 0]", np.array([1, 0], "<f4").tobytes()])
def test_a_vector_finds_every_item(plane: dbapi.Connection, query: str | bytes) -> None:
    assert rows(plane, "select id, distance, rank from knn('plane', ?, 2)", query) == [
        (2, 0.0, 1),
        (5, 0.0, 2),
    ]


def test_k_is_ten_by_default_and_has_no_limit(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("line", np.arange(5000, dtype=np.float32)[:, None], metric="l2")
    assert len(rows(db, "select id from knn('line', 1)")) == 10
    assert rows(db, "select count(*), max(rank), max(distance) from knn('line', 1, 10000)") == [
        (4999, 4999, 4999.0)
    ]


def test_it_joins_laterally_in_either_order(plane: dbapi.Connection) -> None:
    expected = [(1, 2), (2, 5), (3, 1), (4, 2), (5, 2)]
    for source in ("items i, knn('plane', i.id, 1) k", "knn('plane', i.id, 1) k, items i"):
        assert rows(plane, f"select i.id, k.id from {source} order by 1") == expected


def test_parameters_by_name(plane: dbapi.Connection) -> None:
    sql = "select id from knn('plane') where query = 1 and k = 2 and within = '[3, 4, 5]' and exact = 1"
    assert rows(plane, sql) == [(5,), (3,)]


@pytest.mark.parametrize(
    ("within", "expected"),
    [
        ("select id from items where id > 2", [5, 3, 4]),
        ("SELECT id, 'more columns' from items where id in (3, 4)", [3, 4]),
        ("with chosen(i) as (values (4)) select i from chosen", [4]),
        ("values (3), (4), (3)", [3, 4]),
        ("-- the newest\n select 4; -- only that", [4]),
        ("/* none */ select 1 where 0", []),
        ("[4, 3, 3]", [3, 4]),
        ("[]", []),
        ("[1]", []),  # the query itself
        ("[99, 4]", [4]),  # no such item
        ("select id from knn('plane', 4, 2)", [2, 5]),
    ],
)
def test_within_is_exact(plane: dbapi.Connection, within: str, expected: list[int]) -> None:
    assert rows(plane, "select id from knn('plane', 1, 3, ?)", within) == [(i,) for i in expected]


@pytest.mark.parametrize(
    ("within", "message"),
    [
        ("delete from items returning id", "there is no selection .* give a SELECT, WITH or"),
        ("pragma user_version", "there is no selection .* give a SELECT, WITH or"),
        ("attach ':memory:' as other", "there is no selection .* give a SELECT, WITH or"),
        ("explain select 1", "there is no selection .* give a SELECT, WITH or"),
        (
            "with x(i) as (values (9)) delete from items where id in (select i from x)",
            "would write",
        ),
        ("with x(i) as (values (9)) update items set uri = 'x'", "would write"),
        ("select 1; delete from items", "must be one statement"),
        ("select 1; select 2", "must be one statement"),
        ("select id from nowhere", "no such table: nowhere"),
        ("select ?", "bindings"),
        ("select 'one'", "item ids .whole numbers., and gave 'one'"),
        ("select 1.5", "gave 1.5"),
        ("select null", "gave NULL"),
        ('["1"]', "gave '1'"),
        ("[true]", "gave True"),
        ("[1, 2", "not valid JSON"),
        ("[100000000000000000000]", "gave 100000000000000000000"),
        ("", "not ''"),
        (5, "not 5"),
    ],
)
def test_within_refuses(plane: dbapi.Connection, within: Any, message: str) -> None:
    before = rows(plane, "select count(*) from items")
    with pytest.raises(sqlite3.OperationalError, match=f"^knn: within.*{message}"):
        rows(plane, "select * from knn('plane', 1, 3, ?)", within)
    assert rows(plane, "select count(*) from items") == before
    assert not plane.in_transaction


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("knn('plan', 1)", "there is no space 'plan': the spaces are plane"),
        ("knn(null, 1)", "there is no space NULL"),
        ("knn('plane', null)", "query must be a vector BLOB, a JSON array or an item id, not NULL"),
        ("knn('plane', 1.5)", "not 1.5"),
        ("knn('plane', 9)", "item 9 has no vector in space 'plane'"),
        ("knn('plane', '[1, 2, 3]')", "query has 3 dimensions, and space 'plane' has 2"),
        ("knn('plane', x'00000000')", "query has 1 dimensions, and space 'plane' has 2"),
        ("knn('plane', x'000000')", "float32 numbers, 4 bytes each, not a BLOB of 3 bytes"),
        ("knn('plane', x'0000c07f00000000')", "finite float32 numbers, and number 1 is not"),
        ("knn('plane', '[1, NaN]')", "finite float32 numbers, and number 2 is not"),
        ("knn('plane', '[1, 1e39]')", "finite float32 numbers, and number 2 is not"),
        ("knn('plane', 'one')", "query is not valid JSON"),
        ("knn('plane', '[]')", "at least one number"),
        ("knn('plane', '{}')", "at least one number"),
        ("""knn('plane', '[1, "2"]')""", "must hold only numbers"),
        ("knn('plane', 1, 0)", "k must be a whole number of at least 1, not 0"),
        ("knn('plane', 1, 'x')", "k must be a whole number of at least 1, not 'x'"),
        ("knn('plane', 1, null)", "k must be a whole number of at least 1, not NULL"),
        ("knn('plane', 1, 2.5)", "k must be a whole number of at least 1, not 2.5"),
        ("knn('plane', 1, 3, null, 2)", "exact must be 0 or 1, not 2"),
        ("knn_batch('plane', null)", "queries must be a SELECT or a JSON array"),
        ("knn_batch('plane', '[1, 9]')", "query 2: item 9 has no vector"),
        ("knn_batch('plane', '[[1, 2], [3]]')", "query 2 has 1 dimensions"),
        ("knn_batch('plane', 'select 1, 2, 3')", "has 3 columns"),
        ("knn_batch('plane', 'delete from items')", "must begin with SELECT"),
        ("knn_graph('plane', 0)", "k must be a whole number of at least 1, not 0"),
    ],
)
def test_bad_arguments_are_a_sentence(plane: dbapi.Connection, call: str, message: str) -> None:
    with pytest.raises(sqlite3.OperationalError) as caught:
        rows(plane, f"select * from {call}")
    assert message in str(caught.value)
    assert str(caught.value).startswith(call.split("(")[0] + ": ")


def test_an_empty_space_has_no_neighbours(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("empty", np.empty((0, 3)))
    assert rows(db, "select * from knn('empty', '[1, 2, 3]')") == []
    assert rows(db, "select * from knn_graph('empty')") == []
    assert rows(db, "select * from knn_batch('empty', '[[1, 2, 3]]')") == []


def test_batch_equals_a_lateral_join(db: dbapi.Connection, add_space: Fill) -> None:
    vectors = np.random.default_rng(5).standard_normal((300, 12))
    add_space("s", vectors, metric="cosine")
    for within in (None, "select id from items where id % 3 = 0", "[]", "[7]"):
        lateral = rows(
            db,
            "select i.id, k.id, k.distance, k.rank from items i, knn('s', i.id, 7, ?) k"
            " order by i.id, k.rank",
            within,
        )
        sql = "select query, id, distance, rank from knn_batch('s', ?, 7, ?)"
        assert rows(db, sql, "select id from items order by id", within) == lateral
        assert rows(db, sql, json.dumps(list(range(1, 301))), within) == lateral


def test_batch_of_vectors_is_numbered_or_named(plane: dbapi.Connection) -> None:
    nearest = [(1, 2), (1, 5), (2, 4), (2, 2)]
    sql = "select query, id from knn_batch('plane', ?, 2)"
    assert rows(plane, sql, "[[1, 0], [3, 0]]") == nearest
    assert rows(plane, sql, "values (vector('[1, 0]')), ('[3, 0]')") == nearest
    named = "select 'a', vector('[1, 0]') union all select null, 4"
    assert rows(plane, sql, named) == [("a", 2), ("a", 5), (None, 2), (None, 5)]


def test_batch_without_queries(plane: dbapi.Connection) -> None:
    assert rows(plane, "select * from knn_batch('plane', '[]')") == []
    assert rows(plane, "select * from knn_batch('plane', 'select id from items where 0')") == []


def test_batch_with_some_items_outside_within(plane: dbapi.Connection) -> None:
    sql = "select query, id from knn_batch('plane', '[1, 3, 4]', 9, '[3, 4]')"
    assert rows(plane, sql) == [(1, 3), (1, 4), (3, 4), (4, 3)]


@pytest.mark.parametrize("within", [None, "select id from items where id <> 50"])
def test_graph_equals_a_lateral_join(
    db: dbapi.Connection, add_space: Fill, within: str | None
) -> None:
    vectors = np.random.default_rng(6).integers(0, 3, (200, 4))  # ties and duplicates
    add_space("s", vectors, metric="l2")
    lateral = rows(
        db,
        "select i.id, k.id, k.distance, k.rank from items i, knn('s', i.id, 9, ?) k"
        " where ? is null or i.id <> 50 order by i.id, k.rank",
        within,
        within,
    )
    assert rows(db, "select * from knn_graph('s', 9, ?)", within) == lateral


def test_graph_of_more_neighbours_than_there_are(plane: dbapi.Connection) -> None:
    counts = rows(plane, "select id, count(*) from knn_graph('plane', 99) group by id")
    assert counts == [(i, 4) for i in range(1, 6)]


def test_a_search_sees_its_own_transaction_and_its_rollback(plane: dbapi.Connection) -> None:
    nearest = "select id from knn('plane', '[3, 0]', 1)"
    assert rows(plane, nearest) == [(4,)]
    plane.execute("delete from vectors where item_id = 4")
    assert rows(plane, nearest) == [(2,)]
    plane.rollback()
    assert rows(plane, nearest) == [(4,)]
    plane.execute("update vectors set vector = vector('[3, 0.5]') where item_id = 4")
    assert rows(plane, "select id, distance from knn('plane', '[3, 0]', 1)") == [(4, 0.5)]
    plane.rollback()


def test_cosine_of_a_vector_of_zeros_is_one(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", [[1, 0], [0, 0], [0, 5]], metric="cosine")
    assert rows(db, "select id, distance from knn('s', '[0, 0]', 3)") == [
        (1, 1.0),
        (2, 1.0),
        (3, 1.0),
    ]
    assert rows(db, "select id, distance from knn('s', 3, 2)") == [(1, 1.0), (2, 1.0)]


def test_inner_products_are_negated(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", [[1, 0], [0, 0], [4, 0]], metric="ip")
    assert rows(db, "select id, distance from knn('s', '[2, 0]', 3)") == [
        (3, -8.0),
        (1, -2.0),
        (2, 0.0),
    ]
