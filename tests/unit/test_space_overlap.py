"""space_overlap against the definition: sorted distances, sets of neighbours."""

import sqlite3
from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.pipeline.neighbors import neighbors
from nearsql.udfs import dbapi, space_overlap
from nearsql.udfs.search import exact_search, memory
from nearsql.udfs.search.matrix import resident_matrix
from nearsql.udfs.space_overlap import count_shared
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]


def neighbour_sets(vectors: np.ndarray, ids: list[int], items: list[int], k: int) -> dict[int, set]:
    """Of each of the items, its k nearest others among them, by Euclidean distance and id."""
    place = {item: row for row, item in enumerate(ids)}
    found = {}
    for item in items:
        others = sorted(
            (float(np.linalg.norm(vectors[place[item]] - vectors[place[other]])), other)
            for other in items
            if other != item
        )
        found[item] = {other for _, other in others[:k]}
    return found


def expected(a: np.ndarray, b: np.ndarray, first_b: int, k: int, only: set[int]) -> list[tuple]:
    ids_a, ids_b = list(range(1, len(a) + 1)), list(range(first_b, first_b + len(b)))
    items = sorted(set(ids_a) & set(ids_b) & only)
    k = min(k, len(items) - 1)
    of_a, of_b = neighbour_sets(a, ids_a, items, k), neighbour_sets(b, ids_b, items, k)
    return [
        (
            item,
            len(of_a[item] & of_b[item]),
            len(of_a[item] & of_b[item]) / k,
            len(of_a[item] & of_b[item]) / len(of_a[item] | of_b[item]),
        )
        for item in items
    ]


@pytest.fixture
def two(db: dbapi.Connection, add_space: Fill) -> tuple[np.ndarray, np.ndarray]:
    """Spaces `a`, of items 1 to 60, and `b`, of 11 to 80: whole numbers, with many ties."""
    random = np.random.default_rng(1)
    a = random.integers(0, 4, (60, 3)).astype(np.float32)
    b = np.concatenate([a[10:], random.integers(0, 4, (20, 3))]).astype(np.float32)
    b[:25] += random.integers(0, 3, (25, 3))
    add_space("a", a)
    add_space("b", b, first_item=11)
    return a, b


def test_overlap_is_that_of_sets(db: dbapi.Connection, two: tuple[np.ndarray, np.ndarray]) -> None:
    for k in (1, 3, 10, 49, 1000):
        check_overlap(db, two, k)


def check_overlap(db: dbapi.Connection, two: tuple[np.ndarray, np.ndarray], k: int) -> None:
    found = db.execute("select * from space_overlap('a', 'b', ?)", (k,)).fetchall()
    assert found == expected(*two, 11, k, set(range(1, 100)))
    assert len(found) == 50
    assert db.execute("select id, shared from space_overlap('b', 'a', ?)", (k,)).fetchall() == [
        row[:2] for row in found
    ]


def test_within_limits_items_and_neighbours(
    db: dbapi.Connection, two: tuple[np.ndarray, np.ndarray]
) -> None:
    sql = "select * from space_overlap('a', 'b', 4, 'select id from items where id % 2 = 0')"
    assert db.execute(sql).fetchall() == expected(*two, 11, 4, set(range(2, 100, 2)))


def test_a_space_agrees_with_itself(
    db: dbapi.Connection, two: tuple[np.ndarray, np.ndarray]
) -> None:
    sql = (
        "select min(overlap), max(overlap), min(jaccard), count(*) from space_overlap('a', 'a', 7)"
    )
    assert db.execute(sql).fetchone() == (1.0, 1.0, 1.0, 60)


def test_spaces_larger_than_memory_give_the_same(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    add_space("a", random.integers(0, 3, (300, 8)))
    add_space("b", random.integers(0, 3, (300, 8)), first_item=21)
    sql = "select * from space_overlap('a', 'b', 2)"
    computed = db.execute(sql).fetchall()
    assert len(computed) == 280
    monkeypatch.setattr(memory, "residents", memory.Residents())
    monkeypatch.setattr(exact_search, "QUERY_BLOCK", 32)
    monkeypatch.setenv("NEARSQL_MEMORY", "12000B")
    assert db.execute(sql).fetchall() == computed
    assert resident_matrix(db.apsw, find_space(db.apsw, "a")) is None


def test_stored_neighbours_of_whole_spaces_are_read(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    random = np.random.default_rng(2)
    for name in ("a", "b"):
        add_space(name, random.normal(size=(50, 3)))
    sql = "select * from space_overlap('a', 'b', 6)"
    computed = db.execute(sql).fetchall()
    assert len({shared for _, shared, _, _ in computed}) > 2
    neighbors(db, ["a", "b"], k=9)
    monkeypatch.delattr(space_overlap, "exact_graph_blocks")
    assert db.execute(sql).fetchall() == computed
    # Of some items there is no stored graph.
    with pytest.raises(sqlite3.OperationalError, match="exact_graph_blocks"):
        db.execute("select * from space_overlap('a', 'b', 6, '[1, 2, 3]')").fetchall()


@settings(max_examples=30)
@given(st.integers(1, 8), st.integers(0, 30), st.randoms(use_true_random=False))
def test_shared_are_counted_row_by_row(k: int, n: int, random) -> None:
    one = [random.sample(range(12), k) for _ in range(n)]
    other = [random.sample(range(12), k) for _ in range(n)]
    found = count_shared(
        np.array(one, np.int64).reshape(n, k), np.array(other, np.int64).reshape(n, k)
    )
    assert found.tolist() == [len(set(a) & set(b)) for a, b in zip(one, other, strict=True)]


def test_refusals(db: dbapi.Connection, two: tuple[np.ndarray, np.ndarray]) -> None:
    for arguments, sentence in (
        ("'a', 'no'", "there is no space 'no': the spaces are a, b"),
        ("'a', 'b', 0", "k must be a whole number of at least 1, not 0"),
        ("'a', 3", "space_b must be a text, not 3"),
        (
            "'a', 'b', 3, '[1, 2]'",
            "spaces 'a' and 'b' have 0 items in common of those in within, and 2 are",
        ),
        ("'a', 'b', 3, '[11]'", "spaces 'a' and 'b' have 1 item in common of those in within"),
        ("'a', 'b', 3, '[1,'", "within is not valid JSON"),
    ):
        with pytest.raises(sqlite3.OperationalError) as caught:
            db.execute(f"select * from space_overlap({arguments})").fetchall()
        assert str(caught.value).startswith(f"space_overlap: {sentence}")
