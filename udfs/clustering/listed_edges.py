"""The edges of a neighbour graph, weighed by mutual reachability, whoever's list an edge is in."""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearsql.udfs.clustering.forest import Forest
from nearsql.udfs.clustering.tied_edges import leaf_order

# The weight, one end and the other (-1: there is none) of an edge out of each component.
LightestEdges = tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]


@dataclass(frozen=True, slots=True)
class ListedEdges:
    """A neighbour graph with its distances. An edge's weight is max(distance, core distance of either end)."""

    graph: NDArray[np.int32]  # (n, k), by (distance, position), the point itself excluded
    distances: NDArray[np.float64]  # (n, k)
    core_distances: NDArray[np.float64]  # (n,)

    def lightest(
        self, component: NDArray[np.int64], count: int, is_settled: NDArray[np.bool_]
    ) -> LightestEdges:
        """The lightest listed edge out of each of `count` components.

        is_settled, (n,): points whose whole list is known to be in their own component. It changes.
        """
        found: LightestEdges = _lightest(
            self.graph, self.distances, self.core_distances, component, count, is_settled
        )
        return found

    def minimum_tree(self, others: Forest, poll: Callable[[], None]) -> Forest:
        """The minimum spanning tree of the listed edges and those of another tree."""
        n = len(self.graph)
        tree = Forest.of(n)
        is_settled = np.zeros(n, np.bool_)
        while not tree.is_tree:
            poll()
            component, sizes = tree.components()
            lightest = self.lightest(component, len(sizes), is_settled)
            _lighter(others.edges, others.weights, component, *lightest)
            weights, sources, targets = lightest
            tree.add(sources, targets, weights)
        return tree

    def tied(self, tree: Forest, at_most: int) -> tuple[NDArray[np.int64], NDArray[np.float64]]:
        """The edges, (m, 2), that some minimum spanning tree has, and their weights, (m,).

        Of the listed edges and those of `tree`, which is one such tree. Only those of `tree` when there
        are more than `at_most` others. Raises ArithmeticError if a listed edge is lighter than the tree
        allows.
        """
        by_weight = np.argsort(tree.weights, kind="stable")
        edges, weights = tree.edges[by_weight], tree.weights[by_weight]
        order, gaps = leaf_order(edges, weights)
        place = np.empty_like(order)
        place[order] = np.arange(len(order))
        given = (
            self.graph,
            self.distances,
            self.core_distances,
            place,
            _range_maxima(gaps),
        )
        count = _tied(*given, np.empty((0, 2), np.int64), np.empty(0))
        if count < 0:
            raise ArithmeticError("a listed edge is lighter than the spanning tree allows")
        if count > at_most:
            return edges, weights
        pairs, pair_weights = np.empty((count, 2), np.int64), np.empty(count)
        _tied(*given, pairs, pair_weights)
        # Those of the tree that are listed are there twice, which changes nothing.
        return np.concatenate([pairs, edges]), np.concatenate([pair_weights, weights])


@njit(cache=True, nogil=True)
def _lightest(
    graph: NDArray[np.int32],
    distances: NDArray[np.float64],
    core_distances: NDArray[np.float64],
    component: NDArray[np.int64],
    count: int,
    is_settled: NDArray[np.bool_],
) -> tuple[NDArray[np.float64], NDArray[np.int64], NDArray[np.int64]]:
    weight = np.full(count, np.inf)
    source = np.full(count, -1)
    target = np.full(count, -1)
    for p in range(len(graph)):
        if is_settled[p]:
            continue
        own = component[p]
        leads_out = False
        for j in range(graph.shape[1]):
            q = np.int64(graph[p, j])
            other = component[q]
            if other == own:
                continue
            leads_out = True
            w = max(distances[p, j], core_distances[p], core_distances[q])
            # The edge leads out of both, whoever's list it is in.
            if w < weight[own]:
                weight[own], source[own], target[own] = w, p, q
            if w < weight[other]:
                weight[other], source[other], target[other] = w, p, q
        is_settled[p] = not leads_out
    return weight, source, target


@njit(cache=True, nogil=True)
def _lighter(
    edges: NDArray[np.int64],
    edge_weights: NDArray[np.float64],
    component: NDArray[np.int64],
    weight: NDArray[np.float64],
    source: NDArray[np.int64],
    target: NDArray[np.int64],
) -> None:
    """Puts edges in the place of the components' lightest where they are lighter."""
    for e in range(len(edges)):
        p, q = edges[e, 0], edges[e, 1]
        if component[p] == component[q]:
            continue
        for c in (component[p], component[q]):
            if edge_weights[e] < weight[c]:
                weight[c], source[c], target[c] = edge_weights[e], p, q


def _range_maxima(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(levels, n): at [i, j] the largest of the 2**i values from place j on, as far as there are some."""
    n = len(values)
    table = np.empty((max(1, n.bit_length()), n))
    table[0] = values
    for level in range(1, len(table)):
        half = 1 << (level - 1)
        table[level] = table[level - 1]
        np.maximum(table[level, :-half], table[level - 1, half:], out=table[level, :-half])
    return table


@njit(cache=True, nogil=True)
def _tied(
    graph: NDArray[np.int32],
    distances: NDArray[np.float64],
    core_distances: NDArray[np.float64],
    place: NDArray[np.int64],
    maxima: NDArray[np.float64],
    pairs: NDArray[np.int64],
    weights: NDArray[np.float64],
) -> int:
    """Writes the tied edges, each once, as far as there is room; gives their number, or -1.

    -1: an edge is lighter than the heaviest on the tree's path between its ends, which is the largest
    gap between their places in the order of leaves.
    """
    count = 0
    for p in range(len(graph)):
        for j in range(graph.shape[1]):
            q = np.int64(graph[p, j])
            low, high = min(place[p], place[q]) + 1, max(place[p], place[q])
            level = 0
            while (2 << level) <= high - low + 1:
                level += 1
            heaviest = max(maxima[level, low], maxima[level, high + 1 - (1 << level)])
            w = max(distances[p, j], core_distances[p], core_distances[q])
            if w < heaviest:
                return -1
            if w > heaviest or (q < p and p in graph[q]):
                continue
            if count < len(weights):
                pairs[count, 0], pairs[count, 1] = p, q
                weights[count] = w
            count += 1
    return count
