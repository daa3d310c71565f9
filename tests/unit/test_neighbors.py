"""Exact search equals brute force in float64, whatever the data."""

from typing import Any

import faiss
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from nearsql.udfs.search import row_search, workers
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import graph_blocks, nearest, neighbor_graph
from nearsql.udfs.spaces import Metric, Space

METRICS: tuple[Metric, ...] = ("cosine", "l2", "ip")


def matrix_of(
    vectors: NDArray[np.float32], metric: Metric, ids: NDArray[np.int64] | None = None
) -> Matrix:
    if ids is None:
        ids = np.arange(len(vectors), dtype=np.int64) * 3 + 5
    space = Space(1, "s", vectors.shape[1], metric, 0, 0)
    return Matrix(ids, np.ascontiguousarray(vectors, np.float32), space)


def distance(a: NDArray[np.float32], b: NDArray[np.float32], metric: Metric) -> float:
    """One distance, as a textbook has it."""
    x, y = a.astype(np.float64), b.astype(np.float64)
    if metric == "l2":
        return float(np.sqrt(((x - y) * (x - y)).sum()))
    if metric == "ip":
        return float(-(x * y).sum()) + 0.0
    size = np.sqrt((x * x).sum() * (y * y).sum())
    return float(np.clip(1 - (x * y).sum() / size, 0, 2)) if size > 0 else 1.0


def brute_force(
    matrix: Matrix,
    query: NDArray[np.float32],
    k: int,
    subset: set[int] | None = None,
    exclude: int | None = None,
) -> tuple[list[int], list[float]]:
    """Every distance, one at a time, sorted by (distance, id)."""
    found = sorted(
        (distance(query, vector, matrix.space.metric), int(item))
        for item, vector in zip(matrix.ids, matrix.vectors, strict=True)
        if (subset is None or item in subset) and item != exclude
    )[:k]
    return [item for _, item in found], [d for d, _ in found]


def data(kind: str, n: int, d: int, rng: np.random.Generator) -> NDArray[np.float32]:
    if kind == "normal":
        return rng.standard_normal((n, d)).astype(np.float32)
    if kind == "ties":
        return rng.integers(-1, 2, (n, d)).astype(np.float32)
    if kind == "duplicates":
        return rng.standard_normal((max(1, n // 8), d)).astype(np.float32)[
            rng.integers(0, max(1, n // 8), n)
        ]
    if kind == "zeros":
        return (rng.standard_normal((n, d)) * rng.integers(0, 2, (n, 1))).astype(np.float32)
    if kind == "unit":
        vectors = rng.standard_normal((n, d))
        return (vectors / np.linalg.norm(vectors, axis=1, keepdims=True)).astype(np.float32)
    if kind == "far from the origin":  # |x|^2 + |q|^2 - 2xq cancels: float32 sees little
        return (1000 + rng.standard_normal((n, d)) * 0.01).astype(np.float32)
    if kind == "nearly parallel":
        return (1 + rng.standard_normal((n, d)) * 1e-5).astype(np.float32)
    if kind == "any size":  # from numbers whose squares underflow to those whose squares overflow
        sizes = 10.0 ** rng.integers(-44, 38, (n, 1))
        return (rng.standard_normal((n, d)) * sizes).clip(-3e38, 3e38).astype(np.float32)
    raise ValueError(kind)


KINDS = (
    "normal",
    "ties",
    "duplicates",
    "zeros",
    "unit",
    "far from the origin",
    "nearly parallel",
    "any size",
)


def assert_same(
    matrix: Matrix,
    queries: NDArray[np.float32],
    k: int,
    ids: NDArray[np.int64],
    distances: NDArray[np.float64],
    subset: set[int] | None = None,
    exclude: NDArray[np.int64] | None = None,
) -> None:
    for i, query in enumerate(queries):
        left_out = None if exclude is None else int(exclude[i])
        wanted_ids, wanted = brute_force(matrix, query, k, subset, left_out)
        got = ids[i] if exclude is None else ids[i][distances[i] < np.inf]
        assert got.tolist() == wanted_ids
        assert distances[i][: len(wanted)].tolist() == wanted
        assert (ids[i][len(wanted) :] == -1).all()


@settings(max_examples=250, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    metric=st.sampled_from(METRICS),
    n=st.integers(0, 90),
    d=st.sampled_from([1, 2, 3, 8, 9, 33, 64]),
    m=st.sampled_from([1, 3, 4, 20]),
    k=st.integers(1, 100),
    share=st.sampled_from([None, 0.0, 0.03, 0.5, 1.0]),
    excluding=st.booleans(),
    stored=st.booleans(),
    seed=st.integers(0, 2**32 - 1),
)
def test_nearest_equals_brute_force(
    kind: str,
    metric: Metric,
    n: int,
    d: int,
    m: int,
    k: int,
    share: float | None,
    excluding: bool,
    stored: bool,
    seed: int,
) -> None:
    rng = np.random.default_rng(seed)
    vectors = data(kind, n, d, rng)
    matrix = matrix_of(vectors, metric)
    queries = data(kind, m, d, rng)
    if stored and n:
        queries = vectors[rng.integers(0, n, m)]
    subset = None
    if share is not None:  # with ids that do not exist, and repeated ones
        chosen = matrix.ids[rng.random(n) < share]
        subset = rng.permutation(np.concatenate([chosen, chosen[:3], [-7, 0, 10**12]])).astype(int)
    exclude = None
    if excluding:
        exclude = rng.choice(np.concatenate([matrix.ids, [-1, 4, 10**12]]), m)
    ids, distances = nearest(matrix, queries, k, subset=subset, exclude=exclude)
    chosen_ids = None if subset is None else set(subset.tolist())
    assert_same(matrix, queries, k, ids, distances, chosen_ids, exclude)


@settings(max_examples=60, deadline=None)
@given(
    kind=st.sampled_from(KINDS),
    metric=st.sampled_from(METRICS),
    n=st.integers(0, 70),
    d=st.sampled_from([1, 2, 9, 32]),
    k=st.integers(1, 80),
    share=st.sampled_from([None, 0.0, 0.5, 1.0]),
    seed=st.integers(0, 2**32 - 1),
)
def test_the_graph_equals_brute_force(
    kind: str, metric: Metric, n: int, d: int, k: int, share: float | None, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    matrix = matrix_of(data(kind, n, d, rng), metric)
    subset = None if share is None else matrix.ids[rng.random(n) < share]
    places, distances = neighbor_graph(matrix, k, subset=subset)
    ids = matrix.ids if subset is None else subset
    rows = matrix.vectors if subset is None else matrix.vectors[matrix.positions(subset)]
    assert places.shape == distances.shape == (len(ids), max(0, min(k, len(ids) - 1)))
    found = ids[places] if len(ids) else places
    assert_same(matrix, rows, k, found, distances, set(ids.tolist()), ids)


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("kind", ["normal", "ties", "duplicates", "far from the origin"])
def test_larger_than_one_block(kind: str, metric: Metric, monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of queries, blocks of rows with their merging, several threads: the same answer."""
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: 3)
    monkeypatch.setattr(row_search, "QUERY_BLOCK", 64)
    monkeypatch.setattr(row_search, "_OPERATIONS", 1)
    monkeypatch.setattr(row_search, "_SCRATCH", 4 * 24 * 1000)
    monkeypatch.setattr(workers, "MANY_NUMBERS", 1)
    rng = np.random.default_rng(7)
    matrix = matrix_of(data(kind, 9000, 24, rng), metric)
    subset = matrix.ids[rng.random(9000) < 0.7]
    queries = matrix.vectors[rng.integers(0, 9000, 70)]
    for chosen in (None, subset):
        rows = np.arange(9000) if chosen is None else matrix.positions(chosen)
        ids, distances = nearest(matrix, queries, 12, subset=chosen)
        one = [nearest(matrix, q[None], 12, subset=chosen) for q in queries]
        first = len(rows) - 150  # several blocks of the graph side by side
        blocks = list(graph_blocks(matrix, 3, rows=rows, first=first))
        places = np.concatenate([block for _, block, _ in blocks])
        of_graph = np.concatenate([block for _, _, block in blocks])
        for i in range(0, 150, 37):
            own = matrix.ids[rows[first + i]]
            vector = matrix.vectors[rows[first + i]]
            near, near_distances = nearest(matrix, vector[None], 3, subset=chosen, exclude=[own])
            assert matrix.ids[rows][places[i]].tolist() == near[0].tolist()
            assert of_graph[i].tolist() == near_distances[0].tolist()
        assert ids.tolist() == [i[0].tolist() for i, _ in one]
        assert distances.tolist() == [d[0].tolist() for _, d in one]
        for i in range(0, 70, 23):
            exact = sorted(
                (distance(queries[i], matrix.vectors[r], metric), int(matrix.ids[r])) for r in rows
            )
            assert ids[i].tolist() == [item for _, item in exact[:12]]
            assert distances[i].tolist() == [d for d, _ in exact[:12]]


def test_duplicates_are_at_the_same_distance_wherever_they_stand() -> None:
    rng = np.random.default_rng(3)
    for d in (5, 100, 769, 9001):
        row = rng.standard_normal(d).astype(np.float32)
        matrix = matrix_of(np.tile(row, (37, 1)), "cosine")
        ids, distances = nearest(matrix, rng.standard_normal((2, d)).astype(np.float32), 40)
        assert (ids == matrix.ids).all()
        assert (distances == distances[:, :1]).all()
        _, to_itself = nearest(matrix, row[None], 1)
        assert to_itself[0, 0] == 0


def test_the_graph_comes_in_blocks_and_polls(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(row_search, "QUERY_BLOCK", 10)
    rng = np.random.default_rng(1)
    matrix = matrix_of(rng.standard_normal((35, 6)).astype(np.float32), "l2")
    calls = []
    blocks = list(graph_blocks(matrix, 4, poll=lambda: calls.append(1)))
    assert [start for start, _, _ in blocks] == [0, 10, 20, 30]
    assert [len(places) for _, places, _ in blocks] == [10, 10, 10, 5]
    assert len(calls) >= 4


def test_float64_queries_are_cast_not_the_matrix() -> None:
    matrix = matrix_of(np.eye(3, dtype=np.float32), "l2")
    query = np.array([[0.1, 0.2, 0.3]])
    ids, distances = nearest(matrix, query, 1)
    assert ids.tolist() == [[11]]
    assert distances[0, 0] == distance(query.astype(np.float32)[0], matrix.vectors[2], "l2")


def test_faiss_keeps_its_settings() -> None:
    before = faiss.cvar.distance_compute_blas_threshold
    matrix = matrix_of(np.eye(20, dtype=np.float32), "cosine")
    nearest(matrix, matrix.vectors, 3)
    assert faiss.cvar.distance_compute_blas_threshold == before


@pytest.mark.parametrize("queries", [np.zeros(3), np.zeros((1, 2)), np.full((1, 3), np.nan)])
def test_queries_of_another_shape_or_without_a_value_are_refused(queries: NDArray[Any]) -> None:
    with pytest.raises(ValueError, match="queries must be"):
        nearest(matrix_of(np.eye(3, dtype=np.float32), "l2"), queries, 1)


def test_what_float32_cannot_tell_apart_is_searched_further(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Far from the origin every float32 score is noise: the scan must find what the products hid."""
    scans = []
    one = row_search.Search._one

    def counted(self: Any, *arguments: Any) -> Any:
        scans.append(1)
        return one(self, *arguments)

    monkeypatch.setattr(row_search.Search, "_one", counted)
    rng = np.random.default_rng(11)
    matrix = matrix_of(data("far from the origin", 3000, 16, rng), "l2")
    queries = matrix.vectors[:8]
    ids, distances = nearest(matrix, queries, 5)
    assert scans
    assert_same(matrix, queries, 5, ids, distances)
