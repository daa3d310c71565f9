"""Prim's walk from point 0, in the order of the hdbscan library.

Where weights tie there are many minimum spanning trees and many orders of their edges, and HDBSCAN's
labels depend on which is taken. The library walks from row 0, always to the nearest point, the lowest
row first, by the edge that was seen first. Walking the same way gives its labels.

Source: hdbscan/_hdbscan_linkage.pyx, mst_linkage_core_vector.
"""

import heapq
from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearsql.udfs.clustering.distance_filter import distance

# Steps of the dense walk between two polls: about a second's work at 10,000 points.
_STEPS = 256


def prim_over_edges(
    n: int, edges: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    """The walk over given edges: those of all minimum spanning trees give the same walk as all pairs.

    edges: (m, 2), each pair once, connecting all n points. Gives (n - 1, 3): from, to, weight.
    """
    ends = np.concatenate([edges, edges[:, ::-1]])
    by_start = np.argsort(ends[:, 0], kind="stable")
    starts = np.searchsorted(ends[by_start, 0], np.arange(n + 1))
    targets = np.ascontiguousarray(ends[by_start, 1])
    result: NDArray[np.float64] = _walk(starts, targets, np.tile(weights, 2)[by_start])
    return result


@njit(cache=True, nogil=True)
def _walk(
    starts: NDArray[np.int64], targets: NDArray[np.int64], weights: NDArray[np.float64]
) -> NDArray[np.float64]:
    n = len(starts) - 1
    tree = np.empty((n - 1, 3))
    nearest = np.full(n, np.inf)
    source = np.zeros(n, dtype=np.int64)
    visited = np.zeros(n, dtype=np.bool_)
    heap = [(0.0, 0)]
    nearest[0] = 0.0
    size = 0
    while len(heap) > 0:
        weight, p = heapq.heappop(heap)  # by (weight, row): of the nearest the lowest row
        if visited[p]:
            continue
        visited[p] = True
        if size > 0:
            tree[size - 1, 0] = source[p]
            tree[size - 1, 1] = p
            tree[size - 1, 2] = weight
        size += 1
        for e in range(starts[p], starts[p + 1]):
            q = targets[e]
            if not visited[q] and weights[e] < nearest[q]:
                nearest[q] = weights[e]
                source[q] = p
                heapq.heappush(heap, (weights[e], q))
    return tree


def prim_over_points(
    rows: NDArray[np.float32], core_distances: NDArray[np.float64], poll: Callable[[], None]
) -> NDArray[np.float64]:
    """The walk over all pairs of points, each distance computed when it is needed.

    Takes n * n distances and little memory. Gives (n - 1, 3): from, to, weight.
    """
    n = len(rows)
    tree = np.empty((n - 1, 3))
    nearest = np.full(n, np.inf)
    source = np.zeros(n, dtype=np.int64)
    visited = np.zeros(n, dtype=np.bool_)
    at = 0
    for done in range(0, n - 1, _STEPS):
        poll()
        upto = min(done + _STEPS, n - 1)
        at = _steps(rows, core_distances, tree, nearest, source, visited, at, done, upto)
    return tree


@njit(cache=True, nogil=True)
def _steps(
    rows: NDArray[np.float32],
    core_distances: NDArray[np.float64],
    tree: NDArray[np.float64],
    nearest: NDArray[np.float64],
    source: NDArray[np.int64],
    visited: NDArray[np.bool_],
    at: int,
    done: int,
    upto: int,
) -> int:
    """Steps number `done` to `upto` of the walk that stands at point `at`; gives where it ends."""
    for step in range(done, upto):
        visited[at] = True
        to, weight = -1, np.inf
        for q in range(len(rows)):
            if visited[q]:
                continue
            least = max(core_distances[at], core_distances[q])
            if least < nearest[q]:
                w = max(least, distance(rows, at, q))
                if w < nearest[q]:
                    nearest[q] = w
                    source[q] = at
            if nearest[q] < weight:
                weight, to = nearest[q], q
        tree[step, 0] = source[to]
        tree[step, 1] = to
        tree[step, 2] = weight
        at = to
    return at
