"""The spanning tree that HDBSCAN cuts, equal to the hdbscan library's, ties and order included.

1. Neighbour lists give each point's core distance, proven in float64 (exact_neighbors).
2. Lazy Boruvka finds a minimum spanning tree of mutual reachability (boruvka).
3. One pass over half of all pairs finds what ties with it, and proves it minimal (tied_edges).
4. Prim's walk over the ties gives the library's own tree, edge by edge (prim).

Importing this module imports numba; its compiled code is cached on disk.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.clustering.boruvka import minimum_spanning_tree
from nearsql.udfs.clustering.distance_filter import filtered
from nearsql.udfs.clustering.exact_neighbors import (
    SPARE_NEIGHBORS,
    measured_neighbors,
    nearest_by_products,
    settled,
)
from nearsql.udfs.clustering.prim import prim_over_edges, prim_over_points
from nearsql.udfs.clustering.products import products
from nearsql.udfs.clustering.tied_edges import tied_edges

# Longer lists spare searches; measured at 3,000 to 10,000 points, more than this gains nothing.
_FEWEST_NEIGHBORS = 32
# Ties take 40 bytes each; beyond this many the slower walk over all pairs needs less memory.
_TIES = 4_000_000


@dataclass(frozen=True, slots=True)
class SpanningTree:
    """A minimum spanning tree of mutual reachability, in the hdbscan library's order."""

    edges: NDArray[np.float64]  # (n - 1, 3): from, to, weight
    core_distances: NDArray[np.float64]  # (n,): distance to the min_samples-th other point


def n_neighbors_for(n: int, min_samples: int) -> int:
    """How many neighbours, the point itself excluded, `spanning_tree` wants of n points."""
    return min(n - 1, max(min_samples + SPARE_NEIGHBORS, _FEWEST_NEIGHBORS))


def n_neighbors_needed(n: int, min_samples: int) -> int:
    """How many it can do with, when they are there already: the tree is the same, and comes later."""
    return min(n - 1, min_samples + 1)


def spanning_tree(
    rows: NDArray[np.float32],
    neighbor_indices: NDArray[np.integer] | None,
    min_samples: int,
    poll: Callable[[], None] = lambda: None,
) -> SpanningTree:
    """The minimum spanning tree of mutual reachability of n >= 2 points, (n, d) float32.

    neighbor_indices: the exact kNN graph as far as float32 tells it, (n, n_neighbors_for(...)) or fewer
    columns, but n_neighbors_needed(...), self excluded; None has it made from the products, the quickest
    way for up to KEPT_POINTS. min_samples does not count the point itself, as in the hdbscan library's
    code (its documentation says otherwise; scikit-learn's does count it). poll is called between blocks
    of work and may raise.
    """
    n = len(rows)
    min_samples = max(1, min(min_samples, n - 1))
    points = filtered(rows)
    all_products = products(points, poll)
    if neighbor_indices is None:
        neighbors = nearest_by_products(all_products, n_neighbors_for(n, min_samples), poll)
    else:
        neighbors = measured_neighbors(all_products, neighbor_indices, poll)
    neighbors = settled(all_products, neighbors, min_samples, poll)
    core_distances = np.ascontiguousarray(neighbors.distances[:, min_samples - 1])
    edges, weights = minimum_spanning_tree(all_products, neighbors, core_distances, poll)
    at_most = 2 * n * min_samples + _TIES
    ties = tied_edges(all_products, edges, weights, core_distances, poll, at_most=at_most)
    if ties is None:
        return SpanningTree(prim_over_points(points.rows, core_distances, poll), core_distances)
    return SpanningTree(prim_over_edges(n, *ties), core_distances)
