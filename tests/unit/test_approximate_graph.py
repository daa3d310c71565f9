"""Most of the nearest neighbours: the lists are true distances in order, and as good as they say."""

import numpy as np
import pytest
from numpy.typing import NDArray

from nearsql.udfs.clustering.approximate_graph import RECALL, approximate_neighbors
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import neighbor_graph
from nearsql.udfs.spaces import Metric, Space


def never() -> None:
    """A poll that never stops."""


def grouped(n: int, d: int) -> NDArray[np.float32]:
    """Points around 40 centres."""
    rng = np.random.default_rng(5)
    centres = rng.normal(size=(40, d)) * 3
    return (centres[rng.integers(40, size=n)] + rng.normal(size=(n, d))).astype(np.float32)


def matrix_of(rows: NDArray[np.float32], metric: Metric) -> Matrix:
    """As a space would give them."""
    space = Space(1, "s", rows.shape[1], metric, 0, 0)
    return Matrix(np.arange(len(rows)), rows, space)


@pytest.mark.parametrize("metric", ["l2", "cosine"])
def test_lists_are_in_order_and_recall_is_what_it_says(metric: Metric) -> None:
    rows = grouped(4000, 16)
    rows[7] = 0.0  # at 1 from everything in a cosine space
    matrix = matrix_of(rows, metric)
    places, distances, recall = approximate_neighbors(matrix, 14, never)
    truth, true_distances = neighbor_graph(matrix, 14)

    assert places.shape == distances.shape == (4000, 14)
    assert (places != np.arange(4000)[:, None]).all()
    same = np.array([np.isin(a, b).mean() for a, b in zip(places, truth, strict=True)])
    others = np.arange(4000) != 7  # whose neighbours are all equally near in a cosine space
    assert same[others].mean() == pytest.approx(recall, abs=0.03)
    assert recall > RECALL - 0.03
    # None is nearer than the true neighbour of its rank, and where lists are the same, so are distances.
    assert (distances[others] >= true_distances[others] - 1e-6).all()
    whole = (same == 1) & others
    assert whole.sum() > 1000
    np.testing.assert_allclose(distances[whole], true_distances[whole], rtol=1e-5, atol=1e-6)
    if metric == "cosine":
        assert (distances[7] == 1.0).all()


def test_the_same_points_give_the_same_graph() -> None:
    matrix = matrix_of(grouped(1500, 8), "l2")
    first, second = (approximate_neighbors(matrix, 10, never) for _ in range(2))
    assert first[0].tobytes() == second[0].tobytes()
    assert first[1].tobytes() == second[1].tobytes()
