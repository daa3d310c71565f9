"""The spanning tree of a space's points: what hdbscan, sweeps and levels cut.

Importing this module imports numba.
"""

from collections.abc import Callable
from dataclasses import dataclass

import apsw

from nearsql.udfs.clustering.approximations import Approximation
from nearsql.udfs.clustering.neighbor_lists import neighbor_lists
from nearsql.udfs.clustering.spanning_tree import SpanningTree, spanning_tree
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.space_points import euclidean


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
    poll: Callable[[], None],
) -> SpaceTree:
    """The minimum spanning tree of mutual reachability of at least 2 rows of a space.

    matrix: rows as they are stored, all of a space's or some. min_samples: which other point's distance
    is a point's core distance. neighbors: one of NEIGHBORS. poll is called between blocks of work and
    may raise. Raises SqlFunctionError for a space of metric ip.
    """
    points = euclidean(matrix)
    lists = neighbor_lists(db, matrix, points, min_samples, poll)
    return SpaceTree(points, spanning_tree(points.vectors, lists, min_samples, poll))
