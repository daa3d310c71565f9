"""Neighbour lists with float64 distances, made exact wherever float32 rounding could have erred."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearsql.udfs.clustering.distance_filter import (
    FLOAT32_ROUNDOFF,
    FilteredPoints,
    distance,
    reach,
)
from nearsql.udfs.search.workers import in_threads

# Columns asked for beyond the last one that must be exact. They usually prove it to be so; where
# they cannot (ties, near-duplicates), the row is searched again.
SPARE_NEIGHBORS = 16
# Lists measured between two polls, and by one thread at a time.
_MEASURED = 1024


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Each point's nearest others, by (distance, position)."""

    indices: NDArray[np.int64]  # (n, k), row positions, the point itself excluded
    distances: NDArray[np.float64]  # (n, k), Euclidean
    beyond: NDArray[np.float64]  # (n,): nothing outside a point's list is nearer than this


def exact_neighbors(
    points: FilteredPoints,
    indices: NDArray[np.integer],
    n_exact: int,
    poll: Callable[[], None],
) -> Neighbors:
    """Makes the first `n_exact` columns of a kNN graph exact.

    indices: (n, k), self excluded, k >= n_exact, chosen by float32 distances, or by better ones of the
    rows before they were rounded to float32. A k of n - 1 is everything there is, and needs no proof.
    """
    n, k = indices.shape
    found = np.ascontiguousarray(indices, dtype=np.int64)
    distances = np.empty((n, k))
    measure(points.rows, found, distances, poll)
    if k == n - 1:
        return Neighbors(found, distances, np.full(n, np.inf))
    # Whoever chose the lists by float32 distances erred by at most `band` on each squared distance.
    squares = np.einsum("ij,ij->i", points.rows, points.rows, dtype=np.float64)
    band = (points.rows.shape[1] + 8) * FLOAT32_ROUNDOFF * (squares + squares.max())
    beyond = np.sqrt(np.maximum(distances[:, -1] ** 2 - 2 * band, 0.0))
    doubtful = np.flatnonzero(distances[:, n_exact - 1] > beyond)
    for start in range(0, len(doubtful), points.block_rows):
        poll()
        block = doubtful[start : start + points.block_rows]
        dots = points.scaled[block] @ points.scaled.T
        _search(dots, block, points.rows, points.low, points.scale, found, distances)
    beyond[doubtful] = distances[doubtful, -1]
    return Neighbors(found, distances, beyond)


@njit(cache=True, nogil=True)
def _insert(
    indices: NDArray[np.integer], distances: NDArray[np.float64], length: int, q: int, d: float
) -> None:
    """Puts (d, q) into a list sorted by (distance, position), whose place `length` is free."""
    at = length
    while at > 0 and (distances[at - 1] > d or (distances[at - 1] == d and indices[at - 1] > q)):
        distances[at] = distances[at - 1]
        indices[at] = indices[at - 1]
        at -= 1
    distances[at] = d
    indices[at] = q


def measure(
    rows: NDArray[np.float32],
    indices: NDArray[np.integer],
    distances: NDArray[np.float64],
    poll: Callable[[], None],
) -> None:
    """Computes the distances of lists, (n, k), and sorts each by (distance, position), in place."""

    def part(start: int) -> None:
        stop = start + _MEASURED
        _measure(rows, start, indices[start:stop], distances[start:stop])

    in_threads(part, range(0, len(rows), _MEASURED), indices.size * rows.shape[1], poll)


@njit(cache=True, nogil=True)
def _measure(
    rows: NDArray[np.float32],
    start: int,
    indices: NDArray[np.integer],
    distances: NDArray[np.float64],
) -> None:
    """As `measure`, of the lists from row `start` on."""
    n, k = indices.shape
    for p in range(n):
        for j in range(k):
            q = indices[p, j]
            _insert(indices[p], distances[p], j, q, distance(rows, start + p, q))


@njit(cache=True, nogil=True)
def _search(
    dots: NDArray[np.float32],
    block: NDArray[np.int64],
    rows: NDArray[np.float32],
    low: NDArray[np.float64],
    scale: float,
    indices: NDArray[np.int64],
    distances: NDArray[np.float64],
) -> None:
    """Replaces the block's lists by the truly nearest points, in place."""
    k = indices.shape[1]
    for r in range(len(block)):
        p = block[r]
        limit = reach(distances[p, k - 1], scale) - low[p]
        for q in range(len(rows)):
            if low[q] - 2.0 * dots[r, q] > limit or q == p:
                continue
            d = distance(rows, p, q)
            last = distances[p, k - 1]
            if d > last or (d == last and q >= indices[p, k - 1]) or q in indices[p]:
                continue
            _insert(indices[p], distances[p], k - 1, q, d)
            limit = reach(distances[p, k - 1], scale) - low[p]
