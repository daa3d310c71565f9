"""Exact search in little memory: the same results, bit for bit, and no more memory than allowed."""

import tracemalloc
from collections.abc import Callable, Iterator
from itertools import product
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search import exact_search, memory, neighbors, row_search, stored_vectors
from nearsql.udfs.search.exact_search import exact_graph_blocks, exact_nearest
from nearsql.udfs.search.matrix import Matrix, matrix_bytes, resident_matrix
from nearsql.udfs.search.memory import TooLarge
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]


@pytest.fixture(autouse=True)
def _nothing_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memory, "residents", memory.Residents())


def vectors_of(n: int, d: int, seed: int = 0) -> np.ndarray:
    """Clustered vectors, with duplicates and zeros among them."""
    rng = np.random.default_rng(seed)
    found = rng.standard_normal((5, d))[rng.integers(0, 5, n)] + 0.3 * rng.standard_normal((n, d))
    found[rng.integers(0, n, n // 10)] = found[0]
    found[rng.integers(0, n)] = 0
    return found.astype(np.float32)


def select(db: dbapi.Connection, name: str) -> Matrix:
    """The twin: the vectors by a plain SELECT."""
    space = find_space(db.apsw, name)
    rows = db.execute(
        "select item_id, vector from vectors where space_id = ? order by item_id", (space.id,)
    ).fetchall()
    vectors = np.array([np.frombuffer(blob, "<f4") for _, blob in rows])
    return Matrix(np.array([i for i, _ in rows], np.int64), vectors, space)


def same(a: tuple[Any, Any], b: tuple[Any, Any]) -> bool:
    return a[0].tolist() == b[0].tolist() and a[1].tobytes() == b[1].tobytes()


@pytest.fixture
def spaces(db: dbapi.Connection, add_space: Fill) -> dbapi.Connection:
    for metric in ("cosine", "l2", "ip"):
        add_space(metric, vectors_of(230, 6), metric, first_item=3)
    return db


@settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(data=st.data())
def test_a_search_equals_that_of_the_whole_matrix(spaces: dbapi.Connection, data: Any) -> None:
    name = data.draw(st.sampled_from(["cosine", "l2", "ip"]))
    matrix = select(spaces, name)
    k = data.draw(st.sampled_from([1, 3, 10, 50, 229, 230, 500]))
    own = data.draw(st.lists(st.integers(0, 229), min_size=1, max_size=6))
    subset = data.draw(
        st.none() | st.lists(st.integers(-1, 240), max_size=200).map(lambda i: np.array(i, int))
    )
    exclude = data.draw(st.sampled_from([None, "own", "some"]))
    left_out: Any = None if exclude is None else matrix.ids[own].tolist()
    if exclude == "some":
        left_out[0] = None
    # The whole space, a part of it, 16 rows.
    limit = data.draw(st.sampled_from([10**6, 9000, 8000, 3000]))
    asked = (matrix.vectors[own], k)
    expected = neighbors.nearest(matrix, *asked, subset=subset, exclude=left_out)
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("NEARSQL_MEMORY", str(limit))
        patched.setattr(memory, "residents", memory.Residents())
        for _ in range(2):  # with nothing in memory, and with what the first search left there
            found = exact_nearest(
                spaces.apsw, matrix.space, *asked, subset=subset, exclude=left_out
            )
            assert same(found, expected)
            assert memory.residents.nbytes <= limit


@pytest.mark.parametrize("limit", ["1MB", "100KB", "70KB"])
def test_a_graph_equals_that_of_the_whole_matrix(
    spaces: dbapi.Connection, monkeypatch: pytest.MonkeyPatch, limit: str
) -> None:
    monkeypatch.setenv("NEARSQL_MEMORY", limit)
    monkeypatch.setattr(row_search, "QUERY_BLOCK", 32)
    monkeypatch.setattr(exact_search, "QUERY_BLOCK", 32)
    # Pretends that the whole space never fits.
    monkeypatch.setattr(exact_search, "_in_memory", lambda *_: None)
    subsets = (None, np.arange(1, 200, 2), np.array([7]), np.array([], int))
    for metric, subset, first in product(("cosine", "l2", "ip"), subsets, (0, 64)):
        matrix = select(spaces, metric)
        places, distances = neighbors.neighbor_graph(matrix, 4, subset=subset)
        ids = matrix.ids if subset is None else matrix.ids[matrix.positions(subset)]
        blocks = list(exact_graph_blocks(spaces.apsw, matrix.space, 4, subset=subset, first=first))
        assert [i for items, _, _ in blocks for i in items.tolist()] == ids[first:].tolist()
        assert all(len(items) == 32 for items, _, _ in blocks[:-1])
        if blocks:
            found = tuple(np.concatenate([block[i] for block in blocks]) for i in (1, 2))
            assert same(found, (ids[places[first:]], distances[first:]))


def test_a_space_in_memory_is_searched_there(
    db: dbapi.Connection, add_space: Fill, reads: list[int]
) -> None:
    add_space("s", vectors_of(500, 4))
    space = find_space(db.apsw, "s")
    query = np.ones((1, 4), np.float32)
    few, many = np.array([3, 5, 1000]), np.arange(1, 100)
    exact_nearest(db.apsw, space, query, 2, subset=few)
    assert reads == [2]  # those two alone
    exact_nearest(db.apsw, space, query, 2, subset=many)
    assert reads == [2, 500]
    exact_nearest(db.apsw, space, query, 2, subset=few)
    blocks = list(exact_graph_blocks(db.apsw, space, 2, subset=few))
    assert reads == [2, 500]
    assert [items.tolist() for items, _, _ in blocks] == [[3, 5]]


def test_the_part_in_memory_follows_the_changes(
    db: dbapi.Connection, add_space: Fill, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", vectors_of(1000, 8))
    limit = matrix_bytes(1000, 8) * 3 // 4
    monkeypatch.setenv("NEARSQL_MEMORY", str(limit))
    query = vectors_of(3, 8, seed=7)

    def search() -> int:
        """How many vectors were read for a search."""
        reads.clear()
        space = find_space(db.apsw, "s")
        found = exact_nearest(db.apsw, space, query, 5)
        assert same(found, neighbors.nearest(select(db, "s"), query, 5))
        return sum(reads)

    part = limit // 2 // (matrix_bytes(1, 8) + 8)
    assert search() == 1000
    assert search() == 1000 - part
    assert resident_matrix(db.apsw, find_space(db.apsw, "s")) is None
    insert = "insert into vectors (space_id, item_id, vector) values (1, ?, zeroblob(32))"
    db.execute("delete from vectors where item_id > 990")
    db.execute(insert, (1000,))
    assert search() == 991 - part  # behind the part
    db.execute("update vectors set vector = zeroblob(32) where item_id = 1")
    assert search() == 991  # in it
    db.execute("delete from vectors where item_id = 7")
    assert search() == 990
    assert search() == 990 - part
    db.rollback()
    assert search() == 1000


def test_no_more_memory_is_taken_than_allowed(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.random.default_rng(0).standard_normal((4000, 500)).astype(np.float32)  # 8 MB
    add_space("s", vectors, "cosine")
    space = find_space(db.apsw, "s")
    expected = neighbors.nearest(Matrix(np.arange(1, 4001), vectors, space), vectors[:2], 10)
    exact_nearest(db.apsw, space, vectors[:1], 1)  # imports
    limit = 4_000_000
    monkeypatch.setenv("NEARSQL_MEMORY", str(limit))
    monkeypatch.setattr(memory, "residents", memory.Residents())
    tracemalloc.start()
    try:
        for _ in range(3):
            assert same(exact_nearest(db.apsw, space, vectors[:2], 10), expected)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert limit / 2 < peak < limit


def test_when_not_even_a_few_rows_fit(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", vectors_of(100, 50))
    monkeypatch.setenv("NEARSQL_MEMORY", "2KB")
    space = find_space(db.apsw, "s")
    with pytest.raises(TooLarge, match=r"searching space 's' needs 0\.0.* MB of memory, more than"):
        exact_nearest(db.apsw, space, np.ones((1, 50), np.float32), 1)


def test_a_change_stops_a_graph_that_is_not_in_memory(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", vectors_of(100, 50))
    monkeypatch.setattr(exact_search, "_in_memory", lambda *_: None)
    monkeypatch.setattr(exact_search, "QUERY_BLOCK", 32)
    monkeypatch.setenv("NEARSQL_MEMORY", "100KB")
    blocks = exact_graph_blocks(db.apsw, find_space(db.apsw, "s"), 2)
    next(blocks)
    db.execute(
        "delete from vectors where item_id = 99"
    )  # nothing is held open that would forbid it
    db.commit()
    with pytest.raises(SqlFunctionError, match="the vectors of space 's' changed while"):
        list(blocks)


def test_a_stream_can_be_interrupted(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", vectors_of(1000, 8))
    space = find_space(db.apsw, "s")
    monkeypatch.setenv("NEARSQL_MEMORY", "20KB")
    monkeypatch.setattr("nearsql.udfs.interrupt.INTERVAL_S", 0)
    query = np.ones((1, 8), np.float32)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 30

    db.apsw.set_progress_handler(stop, 500)
    with pytest.raises(apsw.InterruptError):
        exact_nearest(db.apsw, space, query, 1)
    db.apsw.set_progress_handler(None)
    found = exact_nearest(db.apsw, space, query, 1)
    assert same(found, neighbors.nearest(select(db, "s"), query, 1))


def test_a_bad_vector_is_refused_by_name(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = vectors_of(1000, 8)
    vectors[900, 3] = np.nan
    add_space("s", vectors)
    monkeypatch.setenv("NEARSQL_MEMORY", "20KB")
    space = find_space(db.apsw, "s")
    with pytest.raises(SqlFunctionError, match="of item 901 in space 's' holds a NaN"):
        exact_nearest(db.apsw, space, np.ones((1, 8), np.float32), 1)


def test_blocks_are_the_space(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", vectors_of(100, 5))
    matrix = select(db, "s")
    for after, rows in ((None, 1), (None, 30), (50, 7), (100, 3)):
        found: Iterator[Matrix] = stored_vectors.blocks(db.apsw, matrix.space, rows, after=after)
        blocks = list(found)
        assert [i for b in blocks for i in b.ids.tolist()] == list(range((after or 0) + 1, 101))
        assert all(len(b.ids) == rows for b in blocks[:-1])
        for block in blocks:
            assert block.vectors.tolist() == matrix.vectors[block.ids - 1].tolist()
    blocks_of_an_older_one = stored_vectors.blocks(db.apsw, matrix.space, 30)
    next(blocks_of_an_older_one)
    db.execute("delete from vectors where item_id = 1")
    with pytest.raises(SqlFunctionError, match="changed while they were being read"):
        next(blocks_of_an_older_one)


def test_vectors_of_items(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", vectors_of(100, 5))
    matrix = select(db, "s")
    found = stored_vectors.vectors_of_items(db.apsw, matrix.space, np.array([70, 3, 3, 500, -1]))
    assert found.ids.tolist() == [3, 70]
    assert found.vectors.tolist() == matrix.vectors[[2, 69]].tolist()
    assert found.squared_norms.tolist() == matrix.squared_norms[[2, 69]].tolist()
    none = stored_vectors.vectors_of_items(db.apsw, matrix.space, np.array([], np.int64))
    assert none.vectors.shape == (0, 5)
