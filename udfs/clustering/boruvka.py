"""The minimum spanning tree of mutual reachability, by Boruvka's method with lazy searching.

The weight of an edge is max(distance, core distance of either end). Each round every component but
the largest finds its lightest edge to another one. Most points know theirs from their neighbour
list; the others are searched against all points, by blocks of matrix products, and only while they
could still beat their component's best edge. No component is ever joined by a made-up edge.

HDBSCAN's tree: Campello, Moulavi, Sander 2013; Boruvka with bounds: March, Ram, Gray 2010.
"""

from collections.abc import Callable

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearsql.udfs.clustering.distance_filter import FilteredPoints, distance, reach
from nearsql.udfs.clustering.exact_neighbors import Neighbors
from nearsql.udfs.clustering.products import Products
from nearsql.udfs.clustering.union_find import find_root, find_roots
from nearsql.udfs.search.workers import in_threads

# Rows of a block that one thread searches at a time.
_SEARCHED = 16


def minimum_spanning_tree(
    products: Products,
    neighbors: Neighbors,
    core_distances: NDArray[np.float64],
    poll: Callable[[], None],
) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
    """The tree's edges, (n - 1, 2) row positions, and their weights, (n - 1,), sorted by weight.

    poll is called between blocks and may raise. Exact in float64; where weights tie, one of the
    possible trees.
    """
    points = products.points
    n = len(points.rows)
    everyone = np.arange(n)
    parents = np.arange(n)
    edges = np.empty((n - 1, 2), dtype=np.int64)
    weights = np.empty(n - 1)
    joined = 0
    # The lightest edge out of its component that a point knows, and what no unknown one undercuts.
    best_weight = np.full(n, np.inf)
    best_target = np.full(n, -1)
    bound = np.zeros(n)
    while joined < n - 1:
        poll()
        roots = find_roots(parents)
        _, component, sizes = np.unique(roots, return_inverse=True, return_counts=True)
        largest = int(np.argmax(sizes))
        _consult_lists(
            neighbors.indices,
            neighbors.distances,
            neighbors.beyond,
            core_distances,
            component,
            best_weight,
            best_target,
            bound,
        )
        lightest, holder = lightest_edges(best_weight, component, len(sizes))
        unsure = np.flatnonzero(
            (bound < best_weight) & (bound < lightest[component]) & (component != largest)
        )
        unsure = unsure[np.argsort(bound[unsure], kind="stable")]
        for start in range(0, len(unsure), points.block_rows):
            poll()
            # Those searched before may have given their component an edge that settles these.
            block = unsure[start : start + points.block_rows]
            block = block[bound[block] < lightest[component[block]]]
            if not len(block):
                continue
            search_outside(
                points,
                products.of(block),
                block,
                everyone,
                core_distances,
                component,
                best_weight,
                best_target,
            )
            bound[block] = best_weight[block]
            lightest, holder = lightest_edges(best_weight, component, len(sizes))
        holder = np.delete(holder, largest)
        holder = holder[np.argsort(best_weight[holder], kind="stable")]
        joined = join(
            holder, best_target[holder], best_weight[holder], parents, edges, weights, joined
        )
    order = np.argsort(weights, kind="stable")
    return edges[order], weights[order]


@njit(cache=True, nogil=True)
def _consult_lists(
    indices: NDArray[np.int64],
    distances: NDArray[np.float64],
    beyond: NDArray[np.float64],
    core_distances: NDArray[np.float64],
    component: NDArray[np.int64],
    best_weight: NDArray[np.float64],
    best_target: NDArray[np.int64],
    bound: NDArray[np.float64],
) -> None:
    """Finds anew, in the lists, the best edge of each point whose former one has become internal."""
    n, k = indices.shape
    for p in range(n):
        if best_target[p] >= 0 and component[best_target[p]] != component[p]:
            continue
        weight, target = np.inf, -1
        for j in range(k):
            q = indices[p, j]
            if component[q] != component[p]:
                w = max(distances[p, j], core_distances[p], core_distances[q])
                if w < weight:
                    weight, target = w, q
        best_weight[p] = weight
        best_target[p] = target
        # What was a bound for more edges holds for fewer; and outside the list all are farther.
        unknown = max(bound[p], beyond[p], core_distances[p])
        bound[p] = min(weight, unknown)


def search_outside(
    points: FilteredPoints,
    dots: NDArray[np.float32],
    block: NDArray[np.int64],
    others: NDArray[np.int64],
    core_distances: NDArray[np.float64],
    component: NDArray[np.int64],
    best_weight: NDArray[np.float64],
    best_target: NDArray[np.int64],
) -> None:
    """Looks for a lighter edge out of its component from each point of the block to one of the others.

    dots: (block, others), products of their scaled rows. best_weight and best_target, (n,), change.
    """

    def part(start: int) -> None:
        rows = slice(start, start + _SEARCHED)
        _search(
            dots[rows],
            block[rows],
            others,
            points.rows,
            points.low,
            points.scale,
            core_distances,
            component,
            best_weight,
            best_target,
        )

    in_threads(part, range(0, len(block), _SEARCHED), dots.size)


@njit(cache=True, nogil=True)
def _search(
    dots: NDArray[np.float32],
    block: NDArray[np.int64],
    others: NDArray[np.int64],
    rows: NDArray[np.float32],
    low: NDArray[np.float64],
    scale: float,
    core_distances: NDArray[np.float64],
    component: NDArray[np.int64],
    best_weight: NDArray[np.float64],
    best_target: NDArray[np.int64],
) -> None:
    """As `search_outside`."""
    for r in range(len(block)):
        p = block[r]
        own = component[p]
        weight, target = best_weight[p], best_target[p]
        limit = reach(weight, scale) - low[p]
        for c in range(len(others)):
            q = others[c]
            if (
                low[q] - 2.0 * dots[r, c] > limit
                or component[q] == own
                or core_distances[q] >= weight
            ):
                continue
            w = max(distance(rows, p, q), core_distances[p], core_distances[q])
            if w < weight:
                weight, target = w, q
                limit = reach(weight, scale) - low[p]
        best_weight[p] = weight
        best_target[p] = target


@njit(cache=True, nogil=True)
def lightest_edges(
    best_weight: NDArray[np.float64], component: NDArray[np.int64], n_components: int
) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
    """Each component's lightest known edge: its weight, and the point that has it."""
    lightest = np.full(n_components, np.inf)
    holder = np.full(n_components, -1)
    for p in range(len(best_weight)):
        c = component[p]
        if holder[c] < 0 or best_weight[p] < lightest[c]:
            lightest[c] = best_weight[p]
            holder[c] = p
    return lightest, holder


@njit(cache=True, nogil=True)
def join(
    sources: NDArray[np.int64],
    targets: NDArray[np.int64],
    edge_weights: NDArray[np.float64],
    parents: NDArray[np.int64],
    edges: NDArray[np.int64],
    weights: NDArray[np.float64],
    joined: int,
) -> int:
    """Adds edges to the first `joined` ones in their order, except where they would close a cycle.

    Gives how many there are then. parents, edges and weights change.
    """
    for i in range(len(sources)):
        a = find_root(parents, sources[i])
        b = find_root(parents, targets[i])
        if a != b:
            parents[max(a, b)] = min(a, b)
            edges[joined, 0] = sources[i]
            edges[joined, 1] = targets[i]
            weights[joined] = edge_weights[i]
            joined += 1
    return joined
