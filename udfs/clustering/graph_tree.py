"""The spanning tree of many points, from a neighbour graph and the lists that it was found in.

1. The graph's distances, and so the core distances, are measured in float64.
2. Boruvka's method takes the lightest edges between components. They are in the graph, or are looked for
   in the lists nearest to those points that the graph leaves unsure: as boruvka does among all points.
3. Components that know of no edge are joined by the lightest between them (component_joins).
4. Prim's walk over all listed edges that tie gives the order of the hdbscan library's tree.

With lists that are all searched for every point the tree is the exact one.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearsql.udfs.clustering.component_joins import join_components
from nearsql.udfs.clustering.distance_filter import FilteredPoints, distance, reach
from nearsql.udfs.clustering.exact_neighbors import measure
from nearsql.udfs.clustering.forest import Forest
from nearsql.udfs.clustering.listed_edges import ListedEdges
from nearsql.udfs.clustering.neighbor_search import Lists, compared, comparison_error
from nearsql.udfs.clustering.prim import prim_over_edges
from nearsql.udfs.clustering.spanning_tree import SpanningTree
from nearsql.udfs.search.workers import Poll, in_order

# Ties take 80 bytes each while they are walked.
_TIES = 4_000_000
# Unsure points that are searched for first, and at most, before their components' lightest edges are
# looked at again: those may settle others. Each of the parts is one thread's.
_FIRST_SEARCHED = 4096
_MOST_SEARCHED = 1 << 16
_PARTS = 4


@dataclass(frozen=True, slots=True)
class GraphTree:
    """A spanning tree made from a graph, and how components that knew of no edge were joined."""

    tree: SpanningTree
    components: int  # 1: all points were connected without a join
    are_joins_exact: bool  # whether each join is the lightest edge there is out of a component


def graph_tree(
    points: FilteredPoints,
    graph: NDArray[np.int32],
    min_samples: int,
    lists: Lists,
    probes: int,
    poll: Callable[[], None],
) -> GraphTree:
    """The spanning tree of mutual reachability of the points, as far as graph and lists tell it.

    graph: (n, k), each point's neighbours, itself excluded, in any order; k >= min_samples. It is sorted
    in place by (distance, position). probes: in how many of its nearest lists a point is searched for.
    """
    n = len(points.rows)
    distances = np.empty(graph.shape)
    measure(points.rows, graph, distances, poll)
    listed = ListedEdges(graph, distances, np.ascontiguousarray(distances[:, min_samples - 1]))
    forest = _light_forest(points, listed, lists, probes, poll)
    components = n - forest.count
    are_exact = join_components(points, listed.core_distances, lists, forest, poll)
    # An edge found late may be lighter than one taken early, so the lightest are taken once more.
    tree = listed.minimum_tree(forest, poll)
    ties = listed.tied(tree, at_most=2 * n * min_samples + _TIES)
    poll()
    walk = prim_over_edges(n, *ties)
    return GraphTree(SpanningTree(walk, listed.core_distances), components, are_exact)


def _light_forest(
    points: FilteredPoints,
    listed: ListedEdges,
    lists: Lists,
    probes: int,
    poll: Callable[[], None],
) -> Forest:
    """Boruvka's method over listed edges and those found in lists, until no component knows of one."""
    n = len(points.rows)
    forest = Forest.of(n)
    is_settled = np.zeros(n, np.bool_)
    # What searching found for a point, and what no edge that is not listed undercuts.
    found_weight = np.full(n, np.inf)
    found_target = np.full(n, -1)
    bound = np.maximum(listed.distances[:, -1], listed.core_distances)
    while not forest.is_tree:
        poll()
        component, sizes = forest.components()
        largest = int(np.argmax(sizes))
        edges = listed.lightest(component, len(sizes), is_settled)
        _forget_internal(component, found_weight, found_target)
        _consider(np.arange(n), component, found_weight, found_target, *edges)
        unsure = np.flatnonzero(
            (bound < edges[0][component]) & (bound < found_weight) & (component != largest)
        )
        unsure = unsure[np.argsort(bound[unsure], kind="stable")]
        height, start = _FIRST_SEARCHED, 0
        while start < len(unsure):
            block = unsure[start : start + height]
            start, height = start + height, min(2 * height, _MOST_SEARCHED)
            block = block[bound[block] < edges[0][component[block]]]
            if len(block):
                _search(
                    points, listed, lists, probes, block, component,
                    found_weight, found_target, poll,
                )  # fmt: skip
                bound[block] = found_weight[block]
                _consider(block, component, found_weight, found_target, *edges)
        weights, sources, targets = edges
        known = sources >= 0
        known[largest] = False  # not searched for: the others know the edges between it and them
        if not known.any():
            break
        forest.add(sources[known], targets[known], weights[known])
    return forest


def _search(
    points: FilteredPoints,
    listed: ListedEdges,
    lists: Lists,
    probes: int,
    block: NDArray[np.int64],
    component: NDArray[np.int64],
    found_weight: NDArray[np.float64],
    found_target: NDArray[np.int64],
    poll: Callable[[], None],
) -> None:
    """Looks for the lightest edge out of its component of each point, in the lists nearest to it."""
    d = points.rows.shape[1]
    error = comparison_error(d)
    parts = [block[first::_PARTS] for first in range(_PARTS)]

    def search(own: NDArray[np.int64], poll: Poll) -> tuple[NDArray[np.float64], NDArray[np.int64]]:
        weight = np.full(len(own), np.inf)
        target = np.full(len(own), -1)
        depth = np.full(len(own), probes)
        for asking, members, apart in compared(points, lists, own, depth, poll):
            _search_members(
                apart, error, asking, own, members, points.rows, points.scale,
                listed.core_distances, component, weight, target,
            )  # fmt: skip
        return weight, target

    numbers = len(block) * probes * d * max(1, len(component) // len(lists.centroids))
    for own, (weight, target) in zip(parts, in_order(search, parts, numbers, poll), strict=True):
        found_weight[own], found_target[own] = weight, target


@njit(cache=True, nogil=True)
def _search_members(
    apart: NDArray[np.float32],
    error: float,
    asking: NDArray[np.int64],
    own: NDArray[np.int64],
    members: NDArray[np.int64],
    rows: NDArray[np.float32],
    scale: float,
    core_distances: NDArray[np.float64],
    component: NDArray[np.int64],
    weight: NDArray[np.float64],
    target: NDArray[np.int64],
) -> None:
    """Looks among the members of a list. apart: (asking, members), wrong by at most `error`."""
    for r in range(len(asking)):
        at = asking[r]
        p = own[at]
        limit = reach(weight[at], scale) + error
        for c in range(len(members)):
            q = members[c]
            if (
                apart[r, c] > limit
                or component[q] == component[p]
                or core_distances[q] >= weight[at]
            ):
                continue
            w = max(distance(rows, p, q), core_distances[p], core_distances[q])
            if w < weight[at]:
                weight[at], target[at] = w, q
                limit = reach(w, scale) + error


@njit(cache=True, nogil=True)
def _forget_internal(
    component: NDArray[np.int64],
    found_weight: NDArray[np.float64],
    found_target: NDArray[np.int64],
) -> None:
    """Forgets found edges whose ends have come into one component."""
    for p in range(len(component)):
        if found_target[p] >= 0 and component[found_target[p]] == component[p]:
            found_weight[p], found_target[p] = np.inf, -1


@njit(cache=True, nogil=True)
def _consider(
    block: NDArray[np.int64],
    component: NDArray[np.int64],
    found_weight: NDArray[np.float64],
    found_target: NDArray[np.int64],
    weight: NDArray[np.float64],
    source: NDArray[np.int64],
    target: NDArray[np.int64],
) -> None:
    """Puts what was found for the points in the place of the components' lightest edges, where lighter."""
    for p in block:
        q = found_target[p]
        if q < 0:
            continue
        for c in (component[p], component[q]):
            if found_weight[p] < weight[c]:
                weight[c], source[c], target[c] = found_weight[p], p, q
