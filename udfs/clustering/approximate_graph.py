"""Most of the nearest neighbours of many points, in a fraction of the time that all of them take.

Clusters and maps hardly change for the few that are missed. How many those are is measured, and recorded.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.clustering.distance_filter import FilteredPoints, filtered
from nearsql.udfs.clustering.exact_neighbors import measure
from nearsql.udfs.clustering.neighbor_search import (
    Lists,
    divided,
    listed_neighbors,
    probes_for,
    true_neighbors,
)
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.space_points import euclidean

Poll = Callable[[], None]

# The share of true neighbours that the graph should have.
RECALL = 0.95
# Seeds of the lists, of the sample that chooses how much is searched, and of the one that measures it.
_LISTS_SEED, _CHOICE_SEED, _RECALL_SEED = range(3)


@dataclass(frozen=True, slots=True)
class ApproximateGraph:
    """The neighbours of Euclidean points, and the lists that they were found in."""

    points: Matrix
    rows: FilteredPoints
    lists: Lists
    probes: int  # lists that each point was compared with
    neighbors: NDArray[np.int32]  # (n, k), positions of others, in no order

    def recall(self, poll: Poll) -> float:
        """Of the k nearest neighbours of 512 points, the share that is in the graph."""
        k = self.neighbors.shape[1]
        return true_neighbors(self.points, k, _RECALL_SEED, poll).recall(self.neighbors)


def approximate_graph(points: Matrix, k: int, poll: Poll) -> ApproximateGraph:
    """About 95% of the k nearest others of each of some points in a space of metric l2.

    The same points give the same graph, whatever the number of threads.
    """
    rows = filtered(points.vectors)
    lists = divided(rows, _LISTS_SEED, poll)
    probes = probes_for(lists, true_neighbors(points, k, _CHOICE_SEED, poll), RECALL)
    neighbors = listed_neighbors(points, rows, lists, k, probes, poll)
    return ApproximateGraph(points, rows, lists, probes, neighbors)


def approximate_neighbors(
    matrix: Matrix, k: int, poll: Poll
) -> tuple[NDArray[np.int64], NDArray[np.float64], float]:
    """As `neighbor_graph`, (places, distances) by (distance, place), but approximate; and its recall.

    matrix: rows as they are stored, of metric l2 or cosine; distances are in that metric.
    """
    found = approximate_graph(euclidean(matrix), k, poll)
    recall = found.recall(poll)
    distances = np.empty(found.neighbors.shape)
    measure(found.rows.rows, found.neighbors, distances, poll)
    if matrix.space.metric == "cosine":
        distances = _cosine_distances(found, distances)
    return found.neighbors.astype(np.int64), distances, recall


def _cosine_distances(found: ApproximateGraph, chords: NDArray[np.float64]) -> NDArray[np.float64]:
    """1 - cos from the distances of points of length 1. A point of zeros is at 1 from everything."""
    is_zero: NDArray[np.bool_] = ~np.any(found.points.vectors, axis=1)
    distances = chords**2 / 2
    distances[is_zero] = 1.0
    distances[is_zero[found.neighbors]] = 1.0
    return distances
