"""All edges that some minimum spanning tree has: what a tie may choose from.

An edge belongs to some minimum spanning tree when it is no heavier than the heaviest edge on the
tree's path between its ends. In the order of the dendrogram's leaves that heaviest edge is the
largest gap between the two, so one pass over half of all pairs finds them, and proves at the same
time that no pair is lighter: that the tree is minimal.
"""

from collections.abc import Callable, Iterator
from functools import partial

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearsql.udfs.clustering.distance_filter import FilteredPoints, distance, reach
from nearsql.udfs.clustering.products import Products
from nearsql.udfs.clustering.union_find import find_root
from nearsql.udfs.search.workers import in_threads

Tied = tuple[NDArray[np.int64], NDArray[np.float64], bool]

# Rows of a block that one thread looks at at a time.
_SEARCHED = 16
# Rows of kept products that are brought into the order of leaves at a time: few, to stay in the cache.
_REORDERED = 128


def tied_edges(
    products: Products,
    edges: NDArray[np.int64],
    weights: NDArray[np.float64],
    core_distances: NDArray[np.float64],
    poll: Callable[[], None],
    *,
    at_most: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64]] | None:
    """The edges, (m, 2), of all minimum spanning trees, and their weights, (m,).

    edges, weights: one of the trees, sorted by weight. Gives None when there are more than
    `at_most` (nearly equidistant points). Raises ArithmeticError if the tree is not minimal.
    """
    order, gaps = leaf_order(edges, weights)
    low = products.points.low[order]
    found: list[NDArray[np.int64]] = []
    found_weights: list[NDArray[np.float64]] = []
    total = 0
    for start, dots in _products_in_order(products, order):
        poll()
        block: dict[int, Tied] = {}
        search = partial(
            _search_part,
            products.points,
            order,
            gaps,
            low,
            core_distances,
            at_most,
            start,
            dots,
            block,
        )
        in_threads(search, range(0, len(dots), _SEARCHED), dots.size)
        for first in range(0, len(dots), _SEARCHED):
            pairs, pair_weights, is_minimal = block[first]
            if not is_minimal:
                raise ArithmeticError(
                    "a pair is closer than the spanning tree allows: it is not minimal"
                )
            found.append(pairs)
            found_weights.append(pair_weights)
            total += len(pairs)
        if total > at_most:
            return None
    return np.concatenate(found), np.concatenate(found_weights)


def _products_in_order(
    products: Products, order: NDArray[np.int64]
) -> Iterator[tuple[int, NDArray[np.float32]]]:
    """(start, dots), block by block: the products of the points at places start, ... with all from there."""
    points, kept = products.points, products.kept
    if kept is not None:
        for start in range(0, len(order), _REORDERED):
            rows = kept[order[start : start + _REORDERED]]
            yield start, np.take(rows, order[start:], axis=1, mode="clip")
        return
    scaled = points.scaled[order]
    for start in range(0, len(order), points.block_rows):
        yield start, scaled[start : start + points.block_rows] @ scaled[start:].T


def _search_part(
    points: FilteredPoints,
    order: NDArray[np.int64],
    gaps: NDArray[np.float64],
    low: NDArray[np.float64],
    core_distances: NDArray[np.float64],
    at_most: int,
    start: int,
    dots: NDArray[np.float32],
    found: dict[int, Tied],
    first: int,
) -> None:
    """Puts into `found` the tied pairs of a part of a block: its rows from `first` on."""
    found[first] = _tied_in_block(
        dots[first : first + _SEARCHED],
        start,
        first,
        order,
        gaps,
        low,
        points.rows,
        points.scale,
        core_distances,
        at_most,
    )


@njit(cache=True, nogil=True)
def leaf_order(
    edges: NDArray[np.int64], weights: NDArray[np.float64]
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The points in an order where each merge of the tree joins two neighbouring runs.

    Gives (order (n,), gaps (n,)): gaps[i] is the weight that separates order[i - 1] from order[i].
    edges: (n - 1, 2), sorted by weight.
    """
    n = len(edges) + 1
    run = np.arange(n)  # union-find; the root of a run knows its first and last point
    first = np.arange(n)
    last = np.arange(n)
    following = np.full(n, -1)
    gap_before = np.zeros(n)
    root = 0
    for e in range(n - 1):
        a = find_root(run, edges[e, 0])
        b = find_root(run, edges[e, 1])
        following[last[a]] = first[b]
        gap_before[first[b]] = weights[e]
        root = min(a, b)
        first[root], last[root] = first[a], last[b]
        run[a] = run[b] = root
    order = np.empty(n, dtype=np.int64)
    gaps = np.empty(n)
    p = first[root]
    for i in range(n):
        order[i] = p
        gaps[i] = gap_before[p]
        p = following[p]
    return order, gaps


@njit(cache=True, nogil=True)
def _with_room(
    pairs: NDArray[np.int64], weights: NDArray[np.float64], room: int
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """Longer arrays that begin with these."""
    more_pairs = np.empty((room, 2), dtype=np.int64)
    more_weights = np.empty(room)
    for i in range(len(weights)):  # a slice assignment would take numba seconds to compile
        more_pairs[i, 0] = pairs[i, 0]
        more_pairs[i, 1] = pairs[i, 1]
        more_weights[i] = weights[i]
    return more_pairs, more_weights


@njit(cache=True, nogil=True)
def _tied_in_block(
    dots: NDArray[np.float32],
    start: int,
    first: int,
    order: NDArray[np.int64],
    gaps: NDArray[np.float64],
    low: NDArray[np.float64],
    rows: NDArray[np.float32],
    scale: float,
    core_distances: NDArray[np.float64],
    at_most: int,
) -> tuple[NDArray[np.int64], NDArray[np.float64], bool]:
    """The tied pairs of some points with those after them in the order of leaves.

    dots: the products of those at places start + first, ... with all from place `start` on. low: as
    FilteredPoints has it, in the order of leaves.
    """
    n = len(order)
    room = 1024
    pairs = np.empty((room, 2), dtype=np.int64)
    weights = np.empty(room)
    m = 0
    for r in range(len(dots)):
        p = order[start + first + r]
        heaviest = 0.0
        limit = -np.inf
        for c in range(first + r + 1, n - start):
            if gaps[start + c] > heaviest or c == first + r + 1:
                heaviest = max(heaviest, gaps[start + c])
                limit = reach(heaviest, scale) - low[start + first + r]
            if low[start + c] - 2.0 * dots[r, c] > limit:
                continue
            q = order[start + c]
            w = max(distance(rows, p, q), core_distances[p], core_distances[q])
            if w < heaviest:
                return pairs[:m], weights[:m], False
            if w == heaviest:
                if m == room:
                    if m > at_most:
                        return pairs, weights, True
                    room *= 2
                    pairs, weights = _with_room(pairs, weights, room)
                pairs[m, 0] = p
                pairs[m, 1] = q
                weights[m] = w
                m += 1
    return pairs[:m], weights[:m], True
