"""Leaks: what brute force over all pairs finds, whatever the k of the graph."""

from itertools import pairwise

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.udfs.findings.leaks import find_leaks
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import neighbor_graph
from nearsql.udfs.spaces import Metric, Space


def matrix_of(vectors: np.ndarray, metric: Metric) -> Matrix:
    vectors = np.ascontiguousarray(vectors, np.float32)
    return Matrix(np.arange(len(vectors)) * 2 + 5, vectors, Space(1, "s", 3, metric, 1, 1))


@settings(max_examples=80, deadline=None)
@given(
    st.integers(0, 2**32 - 1),
    st.integers(2, 40),
    st.integers(1, 4),
    st.sampled_from(["l2", "cosine"]),
)
def test_leaks_are_those_of_brute_force(seed: int, n: int, k: int, metric: Metric) -> None:
    """Few different numbers, so that there are many copies and ties; some items have no value."""
    rng = np.random.default_rng(seed)
    matrix = matrix_of(rng.integers(-1, 2, (n, 3)) + (metric == "cosine") * 2, metric)
    values = rng.integers(-1, rng.integers(1, 4), n)
    same = np.arange(n)
    if n > 5:
        same[[3, 5]] = 1
    places, distances = neighbor_graph(matrix, n)
    far = np.zeros((n, n))
    np.put_along_axis(far, places, distances, axis=1)
    far[far < 1e-12] = 0
    found = np.unique(far.round(9))
    threshold = rng.choice([0.0, *(a + (b - a) / 2 for a, b in pairwise(found))])
    expected = {}
    for row in range(n):
        others = (
            [p for p in range(n) if values[p] not in (-1, values[row])] if values[row] >= 0 else []
        )
        alike = [p for p in others if same[p] == same[row]]
        near = [p for p in others if far[row, p] <= threshold]
        if alike or near:
            least = min((far[row, p].round(9) for p in near), default=0)
            nearest = [p for p in near if far[row, p].round(9) == least]
            expected[row] = alike[:1] or nearest
    leaks = find_leaks(matrix, values, threshold, neighbor_graph(matrix, k), same=same)
    assert leaks.rows.tolist() == sorted(expected)
    for row, other, distance in zip(leaks.rows, leaks.others, leaks.distances, strict=True):
        if metric == "l2":  # by cosine, rounding may part what is equally far
            assert other == expected[row][0]
        assert other in expected[row]
        np.testing.assert_allclose(distance, far[row, other], atol=1e-12)
