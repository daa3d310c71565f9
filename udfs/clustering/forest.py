"""A forest that grows to a spanning tree, edge by edge."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.clustering.boruvka import join
from nearsql.udfs.clustering.union_find import find_roots


@dataclass(slots=True)
class Forest:
    """Edges between n points without a cycle: the first `count` rows are there."""

    parents: NDArray[np.int64]  # (n,), union-find
    edges: NDArray[np.int64]  # (n - 1, 2)
    weights: NDArray[np.float64]  # (n - 1,)
    count: int = 0

    @classmethod
    def of(cls, n: int) -> "Forest":
        """A forest of n points without an edge."""
        return cls(np.arange(n), np.empty((n - 1, 2), np.int64), np.empty(n - 1))

    @property
    def is_tree(self) -> bool:
        """Whether it connects all points."""
        return self.count == len(self.weights)

    def components(self) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """Each point's component, (n,), numbered from 0, and the components' sizes."""
        roots = find_roots(self.parents)
        _, component, sizes = np.unique(roots, return_inverse=True, return_counts=True)
        return component, sizes

    def add(
        self,
        sources: NDArray[np.int64],
        targets: NDArray[np.int64],
        weights: NDArray[np.float64],
    ) -> None:
        """Adds the edges, lightest first, except those that would close a cycle."""
        order = np.argsort(weights, kind="stable")
        self.count = join(
            sources[order],
            targets[order],
            weights[order],
            self.parents,
            self.edges,
            self.weights,
            self.count,
        )
