"""The scalars and aggregates over single vectors."""

import json
import sqlite3
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.udfs import connection, dbapi
from nearsql.udfs import vector_functions as functions

Fill = Callable[..., int]


@pytest.fixture(scope="module")
def empty() -> Iterator[dbapi.Connection]:
    """An empty nearsql database that no test changes."""
    db = connection.create(":memory:")
    yield db
    db.close()


def value(db: dbapi.Connection, sql: str, *parameters: Any) -> Any:
    return db.execute(sql, parameters).fetchone()[0]


float32s = st.floats(width=32, allow_nan=False, allow_infinity=False)


@settings(deadline=None)
@given(st.lists(float32s, min_size=1, max_size=30))
def test_json_reads_back_to_the_same_float32(numbers: list[float]) -> None:
    blob = np.array(numbers, "<f4").tobytes()
    text = functions.vector_json(blob)
    assert text is not None
    assert functions.vector(text) == blob
    assert functions.vector(blob) == blob
    assert np.array(json.loads(text)).astype("<f4").tobytes() == blob
    assert functions.vector_dimensions(blob) == len(numbers)


def test_json_is_as_short_as_it_can_be(db: dbapi.Connection) -> None:
    assert value(db, "select vector_json(vector('[1, 0.1, -2.5e-30, 16777217]'))") == (
        "[1.0, 0.1, -2.5e-30, 1.6777216e+07]"
    )


def test_null_gives_null(db: dbapi.Connection) -> None:
    row = db.execute(
        "select vector(null), vector_json(null), vector_dimensions(null), vector_norm(null),"
        " vector_distance(null, '[1]', 'l2'), vector_distance('[1]', null), centroid(null)"
    ).fetchone()
    assert tuple(row) == (None,) * 7


@settings(deadline=None)
@given(
    st.integers(1, 20).flatmap(
        lambda d: st.tuples(*[st.lists(float32s, min_size=d, max_size=d)] * 2)
    )
)
def test_distances_are_those_of_knn(pair: tuple[list[float], list[float]]) -> None:
    from nearsql.udfs.search.matrix import Matrix
    from nearsql.udfs.search.neighbors import nearest
    from nearsql.udfs.spaces import Metric, Space

    a, b = (np.array(numbers, np.float32) for numbers in pair)
    metrics: tuple[Metric, ...] = ("cosine", "l2", "ip")
    for metric in metrics:
        matrix = Matrix(np.array([1]), a[None], Space(1, "s", len(a), metric, 0, 0))
        _, distances = nearest(matrix, b[None], 1)
        assert functions.vector_distance(a.tobytes(), b.tobytes(), metric) == distances[0, 0]


def test_distance_and_norm_by_hand(db: dbapi.Connection) -> None:
    assert value(db, "select vector_norm('[3, -4]')") == 5
    assert value(db, "select vector_distance('[0, 0]', '[3, 4]', 'l2')") == 5
    assert value(db, "select vector_distance('[1, 2]', '[3, 4]', 'ip')") == -11
    assert value(db, "select vector_distance('[1, 0]', '[0, 9]')") == 1
    assert value(db, "select vector_distance('[1, 0]', '[-2, 0]', 'cosine')") == 2
    assert value(db, "select vector_distance('[0, 0]', '[0, 0]', 'cosine')") == 1


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("vector('[1, 2')", "vector: value is not valid JSON"),
        ("vector('[]')", "vector: value must be a JSON array of at least one number"),
        ("vector('[[1]]')", "vector: value must hold only numbers, and holds '[1]'"),
        ("vector('[true]')", "vector: value must hold only numbers, and holds 'true'"),
        ("vector(x'')", "vector: value must be a vector of float32 numbers, 4 bytes each"),
        ("vector(x'0000')", "not a BLOB of 2 bytes"),
        ("vector(x'0000807f')", "vector: value must hold finite float32 numbers"),
        ("vector('[1, -Infinity]')", "number 2 is not"),
        ("vector(5)", "vector: value must be a vector BLOB or a JSON array, not 5"),
        ("vector_norm(1.5)", "vector_norm: vector must be a vector BLOB or a JSON array, not 1.5"),
        ("vector_distance('[1]', '[1, 2]')", "vector_distance: b has 2 dimensions, not 1"),
        ("vector_distance('[1]', '[1]', 'dot')", "metric must be one of cosine, l2, ip, not 'dot'"),
        ("vector_of('nowhere', 1)", "vector_of: there is no space 'nowhere'"),
    ],
)
def test_refusals(empty: dbapi.Connection, call: str, message: str) -> None:
    with pytest.raises(sqlite3.OperationalError) as caught:
        value(empty, f"select {call}")
    assert message in str(caught.value)


def test_vector_of(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", [[1, 2], [3, 4]])
    assert value(db, "select vector_json(vector_of('s', 2))") == "[3.0, 4.0]"
    assert value(db, "select vector_of('s', 3)") is None
    assert value(db, "select vector_of('s', null)") is None
    with pytest.raises(sqlite3.OperationalError, match="item must be a whole number"):
        value(db, "select vector_of('s', 'one')")


def test_centroid_is_the_mean_summed_in_float64(db: dbapi.Connection, add_space: Fill) -> None:
    vectors = np.random.default_rng(2).standard_normal((400, 7)).astype(np.float32) + 1e4
    add_space("s", vectors)
    blob = value(
        db, "select centroid(vector) from (select vector from vectors union all select null)"
    )
    expected = vectors.astype(np.float64).mean(axis=0).astype(np.float32)
    assert np.frombuffer(blob, "<f4").tolist() == expected.tolist()


def test_centroid_of_nothing_is_null_and_lengths_must_agree(db: dbapi.Connection) -> None:
    assert value(db, "select centroid(column1) from (values ('[1]')) where 0") is None
    with pytest.raises(sqlite3.OperationalError, match="centroid: vector has 1 dimensions, not 2"):
        value(db, "select centroid(column1) from (values ('[1, 2]'), ('[1]'))")
    groups = db.execute(
        "select column1, vector_json(centroid(column2)) from"
        " (values ('a', '[1]'), ('b', '[1, 2]'), ('a', '[3]')) group by 1"
    ).fetchall()
    assert [tuple(row) for row in groups] == [("a", "[2.0]"), ("b", "[1.0, 2.0]")]
