"""Neighbour lists with float64 distances, made exact wherever float32 rounding could have erred."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearsql.udfs.clustering.distance_filter import (
    FLOAT32_ROUNDOFF,
    distance,
    distances_to,
    farther,
    reach,
)
from nearsql.udfs.clustering.nearest_heap import replace_farthest
from nearsql.udfs.clustering.products import Products
from nearsql.udfs.search.workers import in_threads

# Columns asked for beyond the last one that must be exact. They usually prove it to be so; where
# they cannot (ties, near-duplicates), the row is searched again.
SPARE_NEIGHBORS = 16
# Lists measured between two polls, and by one thread at a time.
_MEASURED = 1024
# Rows of a block that one thread searches at a time.
_SEARCHED = 16


@dataclass(frozen=True, slots=True)
class Neighbors:
    """Each point's nearest others, by (distance, position)."""

    indices: NDArray[np.int64]  # (n, k), row positions, the point itself excluded
    distances: NDArray[np.float64]  # (n, k), Euclidean
    beyond: NDArray[np.float64]  # (n,): nothing outside a point's list is nearer than this


def nearest_by_products(products: Products, k: int, poll: Callable[[], None]) -> Neighbors:
    """Each point's k nearest others: the first ones exact, as many as the products can tell apart.

    Its lists go as they are to `settled`. k <= n - 1.
    """
    points = products.points
    n = len(points.rows)
    found = np.empty((n, k), np.int64)
    least = np.empty(n)
    for start in range(0, n, points.block_rows):
        poll()
        dots = products.of(slice(start, start + points.block_rows))

        def part(first: int, dots: NDArray[np.float32] = dots, start: int = start) -> None:
            rows = slice(first, first + _SEARCHED)
            own = slice(start + first, start + min(first + _SEARCHED, len(dots)))
            _choose(dots[rows], start + first, points.low, found[own], least[own])

        in_threads(part, range(0, len(dots), _SEARCHED), dots.size)
    distances = np.empty((n, k))
    measure(points.rows, found, distances, poll)
    beyond = farther(least, points.scale) if k < n - 1 else np.full(n, np.inf)
    return Neighbors(found, distances, beyond)


def measured_neighbors(
    products: Products, indices: NDArray[np.integer], poll: Callable[[], None]
) -> Neighbors:
    """A kNN graph with float64 distances: the first of each list exact, as many as float32 can tell apart.

    indices: (n, k), self excluded, chosen by float32 distances, or by better ones of the rows before they
    were rounded to float32. A k of n - 1 is everything there is, and needs no proof.
    """
    points = products.points
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
    return Neighbors(found, distances, beyond)


def settled(
    products: Products, neighbors: Neighbors, n_exact: int, poll: Callable[[], None]
) -> Neighbors:
    """The same lists with their first `n_exact` columns exact: in doubt a point is searched for again.

    The arrays of `neighbors` change.
    """
    points = products.points
    found, distances, beyond = neighbors.indices, neighbors.distances, neighbors.beyond
    doubtful = np.flatnonzero(distances[:, n_exact - 1] > beyond)
    for start in range(0, len(doubtful), points.block_rows):
        poll()
        block = doubtful[start : start + points.block_rows]
        _search(products.of(block), block, points.rows, points.low, points.scale, found, distances)
    beyond[doubtful] = distances[doubtful, -1]
    return neighbors


@njit(cache=True, nogil=True)
def _choose(
    dots: NDArray[np.float32],
    start: int,
    low: NDArray[np.float64],
    indices: NDArray[np.int64],
    least: NDArray[np.float64],
) -> None:
    """Of each row from `start` on, the k others of the smallest lower bounds, in no order.

    least: what the bound of no other is below.
    """
    heap = np.empty(indices.shape[1])
    for r in range(len(dots)):
        heap[:] = np.inf
        places = indices[r]
        for q in range(dots.shape[1]):
            bound = low[q] - 2.0 * dots[r, q]
            if bound >= heap[0] or q == start + r:
                continue
            replace_farthest(heap, places, bound, q)
        least[r] = low[start + r] + heap[0]


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
    found = np.empty(k)
    for p in range(n):
        distances_to(rows, start + p, indices[p], found)
        for j in range(k):
            _insert(indices[p], distances[p], j, indices[p, j], found[j])


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
