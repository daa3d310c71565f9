"""The graph by half of the multiplications is the one of a search for each row, to the last bit."""

import contextlib
import time
from collections.abc import Iterator
from typing import Any, cast

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearsql.udfs.search import memory, neighbors, symmetric_graph, workers
from nearsql.udfs.search.best_candidates import BestCandidates, bytes_for
from nearsql.udfs.search.neighbors import graph_blocks
from nearsql.udfs.search.row_search import Search, search_among
from nearsql.udfs.search.symmetric_graph import SymmetricGraph, is_worthwhile
from nearsql.udfs.spaces import Metric
from tests.unit.test_neighbors import KINDS, METRICS, data, matrix_of

Graph = tuple[NDArray[np.int64], NDArray[np.float64]]


@pytest.fixture(autouse=True)
def small_blocks() -> Iterator[None]:
    """Blocks so small that few rows are many."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symmetric_graph, "_HEIGHT", 16)
        patch.setattr(symmetric_graph, "_OPERATIONS", 1)
        yield


def searched(search: Search, k: int) -> Graph:
    """The twin: a search for each row."""
    own = np.arange(search.n)
    return search.nearest(search.vectors_of(0, search.n), k, own, None)


def symmetric(search: Search, k: int, first: int = 0) -> Graph:
    graph = SymmetricGraph(search, k, first)
    blocks = list(graph.blocks(None))
    starts = np.cumsum([first] + [len(places) for _, places, _ in blocks])
    assert [start for start, _, _ in blocks] == starts[:-1].tolist()
    assert graph.next == starts[-1]
    assert len({len(places) for _, places, _ in blocks[:-1]}) <= 1
    if not blocks:
        return np.empty((0, k), np.int64), np.empty((0, k))
    return (
        np.concatenate([places for _, places, _ in blocks]),
        np.concatenate([distances for _, _, distances in blocks]),
    )


def assert_same(found: Graph, expected: Graph) -> None:
    assert np.array_equal(found[0], expected[0])
    assert np.array_equal(found[1], expected[1])  # to the last bit


@settings(max_examples=120, deadline=None)
@given(
    kind=st.sampled_from([*KINDS, "in order"]),
    metric=st.sampled_from(METRICS),
    n=st.integers(20, 150),
    d=st.sampled_from([1, 2, 9, 32]),
    k=st.integers(1, 25),
    first=st.integers(0, 149),
    share=st.sampled_from([None, 0.5, 1.0]),
    tall=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_it_is_the_graph_of_searches(
    kind: str,
    metric: Metric,
    n: int,
    d: int,
    k: int,
    first: int,
    share: float | None,
    tall: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    if kind == "in order":  # each row is nearer to the next than to all before: limits never help
        vectors = np.cumsum(rng.random((n, d)), axis=0).astype(np.float32)
    else:
        vectors = data(kind, n, d, rng)
    matrix = matrix_of(vectors, metric)
    rows = None if share is None else np.flatnonzero(rng.random(n) < share)
    search = search_among(matrix, rows)
    k, first = min(k, search.n - 1), min(first, search.n)
    if k < 1 or np.isinf(search.product_errors(search.squared_norms)).all():
        return
    expected = searched(search, k)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(symmetric_graph, "_LEFT_OVER", np.inf)  # goes on whatever the data
        if tall:
            patch.setattr(symmetric_graph, "_MANY_ROWS", 0)
        found = symmetric(search, k, first)
    assert_same(found, (expected[0][first:], expected[1][first:]))


@pytest.mark.parametrize("threads", [1, 3])
@pytest.mark.parametrize("metric", METRICS)
def test_in_any_number_of_threads(
    metric: Metric, threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: threads)
    monkeypatch.setattr(workers, "MANY_NUMBERS", 1)
    rng = np.random.default_rng(4)
    vectors = data("normal", 600, 12, rng) * rng.uniform(0.1, 3, (600, 1)).astype(np.float32)
    matrix = matrix_of(vectors, metric)
    for rows in (None, np.flatnonzero(rng.random(600) < 0.8)):
        search = search_among(matrix, rows)
        assert_same(symmetric(search, 7), searched(search, 7))


@pytest.mark.parametrize("kind", ["normal", "duplicates", "far from the origin"])
def test_graph_blocks_takes_it_where_it_pays(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """And goes on by searches where too many rows are left to be searched for."""
    taken: list[SymmetricGraph] = []

    def made(*arguments: Any) -> SymmetricGraph:
        taken.append(SymmetricGraph(*arguments))
        return taken[-1]

    monkeypatch.setattr(neighbors, "SymmetricGraph", made)
    rng = np.random.default_rng(5)
    vectors = data(kind, 700, 8, rng)
    if kind == "duplicates":
        vectors = vectors[rng.integers(0, 10, 700)]
    matrix = matrix_of(vectors, "l2")
    search = search_among(matrix, None)
    expected = searched(search, 6)
    blocks = list(graph_blocks(matrix, 6))
    places = np.concatenate([places for _, places, _ in blocks])
    distances = np.concatenate([distances for _, _, distances in blocks])
    assert_same((places, distances), expected)
    assert len(taken) == 1
    assert taken[0].next == 700 if kind == "normal" else taken[0].next < 700
    resumed = list(graph_blocks(matrix, 6, first=350))
    assert resumed[0][0] == 350
    assert_same(
        (np.concatenate([b[1] for b in resumed]), np.concatenate([b[2] for b in resumed])),
        (expected[0][350:], expected[1][350:]),
    )


def test_where_it_does_not_pay(monkeypatch: pytest.MonkeyPatch) -> None:
    rng = np.random.default_rng(6)
    search = search_among(matrix_of(data("normal", 4000, 32, rng), "l2"), None)
    assert is_worthwhile(search, 5, 0)
    assert not is_worthwhile(search, 0, 0)
    assert not is_worthwhile(search, 1000, 0)  # too many neighbours
    assert not is_worthwhile(search, 5, 3990)  # too few rows left
    huge = search_among(matrix_of(np.full((4000, 32), 1e30, np.float32), "l2"), None)
    assert not is_worthwhile(huge, 5, 0)  # no float32 score says anything
    monkeypatch.setenv(memory.MEMORY_VARIABLE, str(8 * 4000 * bytes_for(5) - 8))
    assert not is_worthwhile(search, 5, 0)
    monkeypatch.setenv(memory.MEMORY_VARIABLE, str(8 * 4000 * bytes_for(5)))
    assert is_worthwhile(search, 5, 0)


def test_it_polls_between_tiles() -> None:
    search = search_among(matrix_of(data("normal", 100, 4, np.random.default_rng(1)), "ip"), None)
    calls: list[int] = []

    def poll() -> None:
        calls.append(1)
        if len(calls) == 12:
            raise KeyboardInterrupt

    graph = SymmetricGraph(search, 5)
    with pytest.raises(KeyboardInterrupt):
        list(graph.blocks(poll))
    assert len(calls) == 12
    assert graph.next < 100


def test_who_wants_no_more_stops_the_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(workers, "MANY_NUMBERS", 1)
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: 3)
    search = search_among(matrix_of(data("normal", 500, 4, np.random.default_rng(1)), "ip"), None)
    graph = SymmetricGraph(search, 5)
    with contextlib.closing(cast(Any, graph.blocks(None))) as blocks:
        assert next(blocks)[0] == 0
    deadline = time.monotonic() + 30
    while workers._working:
        assert time.monotonic() < deadline
        time.sleep(0.001)
    assert graph.next < 500


@settings(max_examples=200, deadline=None)
@given(
    seed=st.integers(0, 2**32 - 1),
    k=st.integers(1, 20),
    m=st.integers(20, 200),
    parts=st.integers(1, 8),
    error=st.sampled_from([0.0, 0.01, 0.3, 10.0]),
    whole=st.booleans(),
)
def test_candidates_are_all_that_may_be_among_the_nearest(
    seed: int, k: int, m: int, parts: int, error: float, whole: bool
) -> None:
    """Whatever the order in which they come, and whether or not what is below the limits is left out."""
    rng = np.random.default_rng(seed)
    scores = rng.standard_normal((5, m)).astype(np.float32)
    if whole:
        scores = np.rint(scores)  # many are equal, and both zeros are there
    candidates = BestCandidates(k, np.full(5, error))
    for part in np.array_split(rng.permutation(m), parts):
        if len(part) >= k and rng.random() < 0.3:
            candidates.limit_by(scores[:, part])
        rows, columns = np.nonzero(scores[:, part] > candidates.limits[:, None])
        candidates.add(rows, scores[rows, part[columns]], part[columns])
    places, counts = candidates.best()
    for i in range(5):
        limit = np.sort(scores[i])[::-1][k - 1] - np.float64(2 * error)
        wanted = np.flatnonzero(scores[i] >= limit)
        if candidates.is_open[i]:
            assert whole or error > 0.01  # too many could not be told apart
            assert counts[i] == 0
        else:
            found = places[i, : counts[i]]
            assert set(wanted) <= set(found.tolist())
            assert len(set(found.tolist())) == counts[i]
            assert (np.diff(scores[i, found]) <= 0).all()
        assert (places[i, counts[i] :] == -1).all()


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    metric=st.sampled_from(METRICS),
    n=st.integers(20, 120),
    k=st.integers(1, 9),
    n_parts=st.integers(2, 5),
    seed=st.integers(0, 2**32 - 1),
)
def test_rows_kept_apart_never_find_each_other(
    kind: str, metric: Metric, n: int, k: int, n_parts: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = matrix_of(data(kind, n, 3, rng), metric)
    search = search_among(matrix, None)
    apart = rng.integers(0, n_parts, n)
    apart[: n_parts * 2] = np.arange(n_parts * 2) % n_parts
    k = min(k, n - int(np.bincount(apart).max()))
    graph = SymmetricGraph(search, k, apart=apart)
    blocks = list(graph.blocks(None))
    if not blocks:
        return
    places = np.concatenate([places for _, places, _ in blocks])
    distances = np.concatenate([distances for _, _, distances in blocks])
    for row in range(graph.next):
        if places[row, 0] < 0:  # left to the caller
            assert (places[row] == -1).all()
            continue
        others = np.flatnonzero(apart != apart[row])
        expected = Search(matrix, others).nearest(matrix.vectors[row : row + 1], k, None, None)
        assert_same((places[row], distances[row]), (others[expected[0][0]], expected[1][0]))
