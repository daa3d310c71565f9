"""The neighbour lists that clustering starts from: a space's stored graph where it serves, or computed.

Which of the two makes no difference to the clusters: `exact_neighbors` measures the lists anew and
proves, or searches again, whatever was chosen by distances no worse than float32's.
"""

from collections.abc import Callable

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.clustering.products import KEPT_POINTS
from nearsql.udfs.clustering.spanning_tree import n_neighbors_for, n_neighbors_needed
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import neighbor_graph
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.search.stored_graph import stored_graph


def neighbor_lists(
    db: apsw.Connection, matrix: Matrix, points: Matrix, min_samples: int, poll: Callable[[], None]
) -> Ids | None:
    """What `spanning_tree` wants of the points: (n, k) places, the point itself excluded, or None.

    matrix: the rows of the space as they are stored; points: the same by `euclidean`.
    """
    n = len(points.ids)
    wanted = n_neighbors_for(n, min_samples)
    found = stored_graph(db, matrix, wanted, fewest=n_neighbors_needed(n, min_samples))
    if found is None and n <= KEPT_POINTS:
        return None
    if found is None:
        places, _ = neighbor_graph(points, wanted, poll=poll)
        return places
    if matrix.space.metric == "cosine":
        return chord_lists(*found, matrix.squared_norms == 0)
    return found[0]


def chord_lists(places: Ids, distances: Distances, is_zero: NDArray[np.bool_]) -> Ids:
    """The nearest by the chord between normalised rows, of lists that are nearest by cosine distance.

    places, distances: (n, k), by (distance, place). is_zero: (n,), the rows without a direction.

    Between two directions the chord is sqrt(2 * cosine distance): the order is the same. The rows of
    `euclidean` are rounded to float32, which changes a squared chord by at most 8 roundings and
    `exact_neighbors` allows for 2 * (d + 8). Only zeros differ: of cosine distance 1 to everything, as
    points they are at 1 from every direction (cosine distance 1/2) and at 0 from each other.
    """
    zeros = np.flatnonzero(is_zero)
    if not len(zeros):
        return places
    n, k = places.shape
    # No list needs more of them: one may be the point itself.
    zeros = zeros[: k + 1]
    to_direction = np.where(is_zero[:, None], 0.5, distances)
    listed = np.where(is_zero[places], np.inf, to_direction)
    to_zero = np.repeat(np.where(is_zero, 0.0, 0.5)[:, None], len(zeros), axis=1)
    to_zero[np.arange(n)[:, None] == zeros] = np.inf
    both = np.concatenate([listed, to_zero], axis=1)
    nearest = np.argsort(both, axis=1, kind="stable")[:, :k]
    candidates = np.concatenate([places, np.broadcast_to(zeros, to_zero.shape)], axis=1)
    return np.take_along_axis(candidates, nearest, 1)
