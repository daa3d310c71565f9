"""Joins the components of a neighbour graph by the lightest edges between them, never by made-up ones.

Small components are searched for exactly: all their points against all others. Where that would take too
long, as between large clusters far apart, their points are compared with those of other components in the
pairs of lists whose centroids are nearest to each other. Those edges are real, but maybe not the lightest.
"""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.clustering.boruvka import lightest_edges, search_outside
from nearsql.udfs.clustering.distance_filter import FilteredPoints
from nearsql.udfs.clustering.forest import Forest
from nearsql.udfs.clustering.neighbor_search import Lists

# A round searches exactly for so many points, or for this share of them all: a small part of what finding
# the neighbours takes.
_FEWEST_SEARCHED = 4096
_SHARE_SEARCHED = 128
# Pairs of lists in which a large component's edge is looked for.
_LIST_PAIRS = 64
# Points searched exactly at a time, and points that they are multiplied with at a time.
_BLOCK = 512
_COLUMNS = 8192


def join_components(
    points: FilteredPoints,
    core_distances: NDArray[np.float64],
    lists: Lists,
    forest: Forest,
    poll: Callable[[], None],
) -> bool:
    """Completes a forest to a tree; gives whether each join is the lightest edge out of a component."""
    n = len(points.rows)
    are_exact = True
    while not forest.is_tree:
        component, sizes = forest.components()
        by_size = np.argsort(sizes, kind="stable")[:-1]  # the largest is joined by the others
        affordable = np.cumsum(sizes[by_size]) <= max(_FEWEST_SEARCHED, n // _SHARE_SEARCHED)
        best_weight = np.full(n, np.inf)
        best_target = np.full(n, -1)
        is_small = np.zeros(len(sizes), np.bool_)
        is_small[by_size[affordable]] = True
        _search_all(points, core_distances, component, is_small, best_weight, best_target, poll)
        large = by_size[~affordable]
        if len(large):
            are_exact = False
            _search_lists(
                points, core_distances, component, large, lists, best_weight, best_target, poll
            )
        _, holder = lightest_edges(best_weight, component, len(sizes))
        holder = holder[by_size]
        forest.add(holder, best_target[holder], best_weight[holder])
    return are_exact


def _search_all(
    points: FilteredPoints,
    core_distances: NDArray[np.float64],
    component: NDArray[np.int64],
    is_searched: NDArray[np.bool_],
    best_weight: NDArray[np.float64],
    best_target: NDArray[np.int64],
    poll: Callable[[], None],
) -> None:
    """Finds the lightest edge out of each of the components searched, among all there are."""
    n = len(component)
    todo = np.flatnonzero(is_searched[component])
    # No edge is lighter than the core distance: of those in dense places first, others may be spared.
    todo = todo[np.argsort(core_distances[todo], kind="stable")]
    for start in range(0, len(todo), _BLOCK):
        lightest, _ = lightest_edges(best_weight, component, len(is_searched))
        block = todo[start : start + _BLOCK]
        block = block[core_distances[block] < lightest[component[block]]]
        if not len(block):
            continue
        rows = points.scaled_part(block)
        for first in range(0, n, _COLUMNS):
            poll()
            others = np.arange(first, min(first + _COLUMNS, n))
            dots = rows @ points.scaled_part(slice(first, first + _COLUMNS)).T
            search_outside(
                points, dots, block, others, core_distances, component, best_weight, best_target
            )


def _search_lists(
    points: FilteredPoints,
    core_distances: NDArray[np.float64],
    component: NDArray[np.int64],
    searched: NDArray[np.int64],
    lists: Lists,
    best_weight: NDArray[np.float64],
    best_target: NDArray[np.int64],
    poll: Callable[[], None],
) -> None:
    """Finds light edges out of each of the components searched, in the nearest pairs of lists."""
    members = np.split(lists.order, lists.starts[1:-1])
    sizes = np.diff(lists.starts)
    list_of = lists.nearest[:, 0]
    squares = np.einsum("ij,ij->i", lists.centroids, lists.centroids)
    for number in searched:
        poll()
        # Lists with points of the component, and those with others.
        count = np.bincount(list_of[component == number], minlength=len(sizes))
        inside, outside = np.flatnonzero(count), np.flatnonzero(count < sizes)
        apart = (
            squares[inside, None]
            + squares[None, outside]
            - 2 * lists.centroids[inside] @ lists.centroids[outside].T
        )
        for pair in np.argsort(apart, axis=None, kind="stable")[:_LIST_PAIRS]:
            own = members[inside[pair // len(outside)]]
            others = members[outside[pair % len(outside)]]
            own = own[component[own] == number]
            others = others[component[others] != number]
            dots = points.scaled_part(own) @ points.scaled_part(others).T
            search_outside(
                points, dots, own, others, core_distances, component, best_weight, best_target
            )
