"""The spanning tree of a space's points: what hdbscan, sweeps and levels cut.

Of many points it is made from a neighbour graph, and says how good that is. Importing this module imports
numba.
"""

from collections.abc import Callable
from dataclasses import dataclass

import apsw
import numpy as np

from nearsql.udfs.clustering.approximate_graph import ApproximateGraph, approximate_graph
from nearsql.udfs.clustering.approximations import Approximation, is_graph, note
from nearsql.udfs.clustering.graph_tree import GraphTree, graph_tree
from nearsql.udfs.clustering.hdbscan_tree import cut
from nearsql.udfs.clustering.neighbor_lists import neighbor_lists
from nearsql.udfs.clustering.spanning_tree import SpanningTree, n_neighbors_for, spanning_tree
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.space_points import euclidean, part

# Points that are clustered in both ways to see how far these agree.
_COMPARED = 10_000
_AGREEMENT_SEED = 3

Poll = Callable[[], None]


@dataclass(frozen=True, slots=True)
class SpaceTree:
    """A spanning tree of mutual reachability and the points it spans."""

    points: Matrix  # metric l2: those of a cosine space are divided by their norms
    tree: SpanningTree
    approximation: Approximation | None = None  # None: it is exact

    @property
    def is_exact(self) -> bool:
        """Whether it is the minimum spanning tree of all pairs."""
        return self.approximation is None


def space_tree(
    db: apsw.Connection,
    matrix: Matrix,
    min_samples: int,
    *,
    neighbors: str = "auto",
    min_cluster_size: int | None = None,
    poll: Poll,
) -> SpaceTree:
    """The minimum spanning tree of mutual reachability of at least 2 rows of a space.

    matrix: rows as they are stored, all of a space's or some. min_samples: which other point's distance
    is a point's core distance. neighbors: one of NEIGHBORS. min_cluster_size: at which the agreement of
    an approximate tree with the exact one is measured; by default min_samples. poll is called between
    blocks of work and may raise. Raises SqlFunctionError for a space of metric ip.

    The same rows and parameters give the same tree, whatever the number of threads.
    """
    points = euclidean(matrix)
    n = len(points.ids)
    if not is_graph(neighbors, n):
        lists = neighbor_lists(db, matrix, points, min_samples, poll)
        return SpaceTree(points, spanning_tree(points.vectors, lists, min_samples, poll))
    return tree_from_graph(points, min_samples, min_cluster_size=min_cluster_size, poll=poll)


def tree_from_graph(
    points: Matrix, min_samples: int, *, min_cluster_size: int | None = None, poll: Poll
) -> SpaceTree:
    """`space_tree` from a neighbour graph, of points that are Euclidean already."""
    graph, made = _from_graph(points, min_samples, poll)
    approximation = Approximation(
        n=len(points.ids),
        k=graph.neighbors.shape[1],
        probes=graph.probes,
        recall=graph.recall(poll),
        agreement=_agreement(points, min_samples, max(2, min_cluster_size or min_samples), poll),
        components=made.components,
        are_joins_exact=made.are_joins_exact,
    )
    note(approximation)
    return SpaceTree(points, made.tree, approximation)


def _from_graph(points: Matrix, min_samples: int, poll: Poll) -> tuple[ApproximateGraph, GraphTree]:
    n = len(points.ids)
    rank = max(1, min(min_samples, n - 1))
    graph = approximate_graph(points, n_neighbors_for(n, rank), poll)
    # Half of the lists are enough for edges: the nearest of all that lead out is wanted, not most of many.
    probes = (graph.probes + 1) // 2
    return graph, graph_tree(graph.rows, graph.neighbors, rank, graph.lists, probes, poll)


def _agreement(points: Matrix, min_samples: int, min_cluster_size: int, poll: Poll) -> float:
    """The adjusted Rand index of a sample of the points clustered exactly and from a graph."""
    from sklearn.metrics import adjusted_rand_score

    n = len(points.ids)
    chosen = np.random.default_rng(_AGREEMENT_SEED).choice(n, min(n, _COMPARED), replace=False)
    sample = part(points, np.sort(points.ids[chosen]))
    exact = spanning_tree(sample.vectors, None, min_samples, poll)
    approximate = _from_graph(sample, min_samples, poll)[1].tree
    poll()
    one, other = (
        cut(tree, min_cluster_size=min_cluster_size).labels for tree in (exact, approximate)
    )
    return float(adjusted_rand_score(one, other))
