"""Near-duplicates: the pairs and groups of brute force, whatever the k of the graph, and nothing missed."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.udfs.findings import duplicates as module
from nearsql.udfs.findings.duplicates import (
    duplicate_groups,
    find_duplicates,
    near_lists,
    threshold_of,
)
from nearsql.udfs.findings.identical import identical_rows
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import neighbor_graph
from nearsql.udfs.spaces import Metric, Space


def matrix_of(vectors: np.ndarray, metric: Metric = "l2") -> Matrix:
    """Item ids with gaps, so that ids and places differ."""
    vectors = np.ascontiguousarray(vectors, np.float32)
    space = Space(1, "s", vectors.shape[1], metric, 1, 1)
    return Matrix(np.arange(len(vectors)) * 3 + 10, vectors, space)


def all_distances(matrix: Matrix) -> np.ndarray:
    """(n, n), in float64; 0 between identical rows, but for rows of zeros by cosine."""
    x = matrix.vectors.astype(np.float64)
    if matrix.space.metric == "l2":
        return np.sqrt(((x[:, None] - x[None]) ** 2).sum(axis=2))
    sizes = np.sqrt((x * x).sum(axis=1)[:, None] * (x * x).sum(axis=1)[None])
    products = (x[:, None] * x[None]).sum(axis=2)
    cosines = np.divide(products, sizes, out=np.zeros_like(products), where=sizes > 0)
    found = np.clip(1 - cosines, 0, 2)
    is_same = (x[:, None] == x[None]).all(axis=2) & (sizes > 0)
    return np.where(is_same, 0.0, found)


def groups_by_hand(linked: np.ndarray) -> list[int]:
    """The first of each row's group: the lowest number is passed on along the links until none changes."""
    groups = list(range(len(linked)))
    changed = True
    while changed:
        changed = False
        for a, b in zip(*np.nonzero(linked), strict=True):
            lowest = min(groups[a], groups[b])
            changed |= groups[a] != lowest or groups[b] != lowest
            groups[a] = groups[b] = lowest
    return groups


def other_by_hand(distances: np.ndarray, threshold: float, row: int) -> int:
    near = [p for p in range(len(distances)) if p != row and distances[row, p] <= threshold]
    same = [p for p in near if distances[row, p] == 0]
    before = [p for p in near if p < row]
    return min(same or before or near, key=lambda p: (distances[row, p], p), default=-1)


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(1, 40),
    st.integers(1, 3),
    st.integers(1, 5),
    st.sampled_from(["l2", "cosine"]),
)
def test_pairs_and_groups_are_those_of_brute_force(
    seed: int, n: int, levels: int, k: int, metric: Metric
) -> None:
    """Few different numbers, so that there are many copies, ties and rows of zeros."""
    rng = np.random.default_rng(seed)
    vectors = rng.integers(-levels, levels + 1, (n, 3)) / rng.choice([1, 3])
    matrix = matrix_of(vectors, metric)
    distances = all_distances(matrix)
    # Half-way between two distances that occur, where no rounding decides; or just above 0.
    found = np.unique(distances.round(9))
    threshold = rng.choice([1e-9, *(a + (b - a) / 2 for a, b in pairwise(found))])
    linked = distances <= threshold
    graph = neighbor_graph(matrix, k) if k < 5 else None
    result = find_duplicates(matrix, threshold, near_lists(matrix, graph))
    assert result.groups.tolist() == groups_by_hand(linked)
    if metric == "l2":
        assert result.others.tolist() == [
            other_by_hand(distances, threshold, row) for row in range(n)
        ]
    there = result.others >= 0
    np.testing.assert_allclose(
        result.distances[there],
        distances[np.flatnonzero(there), result.others[there]],
        atol=1e-12,
    )
    assert (result.distances[there] <= threshold).all()
    assert np.isnan(result.distances[~there]).all()


def test_no_pair_is_missed_because_k_was_small() -> None:
    """A ring of 60 points, each near 24 others, and one point that hangs on the ring by its farthest link."""
    angles = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    ring = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    step = np.linalg.norm(ring[0] - ring[1])
    threshold = np.linalg.norm(ring[0] - ring[12]) + step / 100
    outside = ring[0] * (1 + threshold - step / 100)
    matrix = matrix_of(np.concatenate([ring, [outside], outside * 9 + [[5, 5]]]))
    for k in (1, 2, 5, 61):
        graph = neighbor_graph(matrix, k)
        found = find_duplicates(matrix, threshold, near_lists(matrix, graph))
        assert found.groups.tolist() == [0] * 61 + [61]
        assert found.others[60] == 0


@pytest.mark.parametrize("is_stored", [True, False])
def test_a_thousand_copies_are_not_a_million_pairs(
    monkeypatch: pytest.MonkeyPatch, is_stored: bool
) -> None:
    searched = []
    nearest = module.nearest

    def counting(matrix: Matrix, queries: np.ndarray, k: int, **options: object) -> object:
        searched.append(len(queries) * k)
        return nearest(matrix, queries, k, **options)

    monkeypatch.setattr(module, "nearest", counting)
    vectors = np.zeros((1000, 4))
    vectors[-3:] = np.eye(3, 4) * 0.1
    matrix = matrix_of(vectors + 1)
    graph = neighbor_graph(matrix, 10) if is_stored else None
    assert not duplicate_groups(matrix, 1.0, graph=graph).any()
    assert sum(searched) < 100


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 40), st.sampled_from(["l2", "cosine"]))
def test_the_threshold_does_not_depend_on_the_graph(seed: int, n: int, metric: Metric) -> None:
    rng = np.random.default_rng(seed)
    vectors = rng.normal(size=(n, 3))
    vectors[rng.random(n) < 0.4] = rng.integers(0, 2, 3)
    matrix = matrix_of(vectors, metric)
    chosen = threshold_of(near_lists(matrix))
    assert chosen == threshold_of(near_lists(matrix, neighbor_graph(matrix, 3)))
    distances = all_distances(matrix)
    np.fill_diagonal(distances, np.inf)
    apart = [
        nearest for nearest in distances.min(axis=1, initial=np.inf) if 1e-12 < nearest < np.inf
    ]
    assert chosen == pytest.approx(0.13 * np.median(apart) if apart else 0.0)


def test_the_same_content_is_a_duplicate_at_any_distance() -> None:
    matrix = matrix_of([[0, 0], [5, 0], [9, 0], [9, 0.1], [20, 0]])
    same = np.array([0, 0, 2, 3, 0])
    found = find_duplicates(matrix, 0.5, near_lists(matrix), same=same)
    assert found.groups.tolist() == [0, 0, 2, 2, 0]
    assert found.others.tolist() == [1, 0, 3, 2, 0]
    np.testing.assert_allclose(found.distances, [5, 5, 0.1, 0.1, 20], rtol=1e-6)


def test_rows_of_zeros_are_not_the_same_by_cosine() -> None:
    matrix = matrix_of([[0, 0], [0, 0], [1, 1], [1, 1]], "cosine")
    assert identical_rows(matrix).tolist() == [0, 1, 2, 2]
    assert duplicate_groups(matrix, 0.1).tolist() == [0, 1, 2, 2]
    assert duplicate_groups(matrix, 0.0).tolist() == [0, 1, 2, 2]


@pytest.mark.parametrize("n", [0, 1, 2])
def test_few_rows(n: int) -> None:
    matrix = matrix_of(np.ones((n, 2)))
    found = find_duplicates(matrix, 0.0, near_lists(matrix))
    assert found.groups.tolist() == [0] * n
    assert found.others.tolist() == ([1, 0] if n == 2 else [-1] * n)


def test_who_polls_is_asked_and_may_stop() -> None:
    def stop() -> None:
        raise KeyboardInterrupt

    many = np.random.default_rng(0).random((3000, 600), np.float32)
    with pytest.raises(KeyboardInterrupt):
        duplicate_groups(matrix_of(many), 100.0, stop)
