"""Clusters within clusters: each level is HDBSCAN of the items of one cluster of the level above, alone.

Distances, core distances and minimum sizes of a split are those among the items that are split, so that
a cluster of one density shows what is inside it, which one cut of the whole space's tree cannot.

No clustered item is lost on the way down. A cluster that is too small to split, or that falls into fewer
than two, is a cluster of the next level as it is. Where a split finds two or more, the items that
HDBSCAN calls noise stay with the one they hang on: they join its members along the cluster's spanning
tree, the shortest edge first (a minimum spanning forest rooted in the members: Cousty, Bertrand, Najman,
Couprie 2009, "Watershed cuts"), with probability 0. They take no part in splits further down.
"""

import heapq
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.clustering.hdbscan_tree import Clustering, cut
from nearsql.udfs.clustering.spanning_tree import SpanningTree

# (rows (m,), ascending, min_samples) -> the spanning tree of those rows alone, numbered from 0.
TreeOf = Callable[[NDArray[np.int64], int], SpanningTree]


@dataclass(frozen=True, slots=True)
class LevelRule:
    """How the n members of a cluster are split into those of the next level."""

    smallest_parent: int  # of fewer, nothing is split
    min_samples: int
    at_least: int  # the minimum size is n // share, but no less than this
    share: int
    at_most: int | None = None  # and no more than this

    def min_cluster_size(self, n: int) -> int:
        """The fewest members of a cluster, of n that are split."""
        size = max(self.at_least, n // self.share)
        return size if self.at_most is None else min(size, self.at_most)


# Level 1 splits the whole space, level 2 each of its clusters, level 3 each of theirs.
RULES = (
    LevelRule(smallest_parent=2, min_samples=10, at_least=50, share=100),
    LevelRule(smallest_parent=30, min_samples=5, at_least=15, share=10),
    LevelRule(smallest_parent=15, min_samples=3, at_least=5, share=5, at_most=50),
)


@dataclass(frozen=True, slots=True)
class Level:
    """One level's clusters of n items. The arrays of items are (n,).

    An item's probability, outlier score and core distance are those of the last split it took part in; a
    split that leaves a cluster as it is does not count.
    """

    labels: NDArray[np.int64]  # -1 is noise; unique within the level
    # The member by which an item is in its cluster: itself, or of who joined the one it hangs on; -1.
    members: NDArray[np.int64]
    probabilities: NDArray[np.float64]  # 0 for noise and for who joined
    outlier_scores: NDArray[np.float64]  # NaN where there was no split
    core_distances: NDArray[np.float64]  # NaN where there was no split
    parents: NDArray[np.int64]  # (clusters,): each one's cluster at the level above; -1 at level 1
    births: NDArray[np.float64]  # (clusters,): lambda, 1 / the distance it split off at
    max_lambdas: NDArray[np.float64]  # (clusters,): 1 / the distance at which its last items part


def cluster_levels(
    n: int, tree_of: TreeOf, *, rules: Sequence[LevelRule] = RULES, seed_rules: bool = False
) -> list[Level]:
    """The levels of n items, the coarsest first, one by each rule.

    tree_of gives the spanning tree of any two items or more. seed_rules: the recipe to the letter. A
    cluster that is not split has none at the next level, and what a split calls noise is noise, there
    and below.
    """
    everything = Level(
        labels=np.zeros(n, np.int64),
        members=np.arange(n),
        probabilities=np.zeros(n),
        outlier_scores=np.full(n, np.nan),
        core_distances=np.full(n, np.nan),
        parents=np.array([-1]),
        births=np.array([np.nan]),
        max_lambdas=np.array([np.nan]),
    )
    # What belongs to no cluster of the whole space is noise by either recipe.
    first = _split(everything, rules[0], tree_of, keeps_all=False)
    levels = [replace(first, parents=np.full(len(first.parents), -1))]
    for rule in rules[1:]:
        levels.append(_split(levels[-1], rule, tree_of, keeps_all=not seed_rules))
    return levels


def _split(above: Level, rule: LevelRule, tree_of: TreeOf, *, keeps_all: bool) -> Level:
    """The level below: its clusters are numbered by parent, then as HDBSCAN numbers them."""
    n = len(above.labels)
    labels = np.full(n, -1)
    members = np.full(n, -1)
    probabilities = above.probabilities.copy() if keeps_all else np.zeros(n)
    outlier_scores = above.outlier_scores.copy()
    core_distances = above.core_distances.copy()
    parents: list[int] = []
    lambdas: list[tuple[float, float]] = []
    is_member = above.members == np.arange(n)
    for parent, rows in enumerate(_rows_by_label(above.labels, is_member, len(above.parents))):
        first = len(parents)
        of_children: list[tuple[float, float]] = []
        if len(rows) >= rule.smallest_parent:
            tree = tree_of(rows, min(rule.min_samples, len(rows) - 1))
            found = cut(tree, min_cluster_size=rule.min_cluster_size(len(rows)))
            of_children = _lambdas(found)
        if keeps_all and len(of_children) < 2:  # it stays as it is
            labels[rows] = first
            members[rows] = rows
            of_children = [(float(above.births[parent]), float(above.max_lambdas[parent]))]
        elif len(rows) >= rule.smallest_parent:
            is_inside = found.labels >= 0
            placed = np.arange(len(rows)) if keeps_all else np.flatnonzero(is_inside)
            holders = hanging_on(tree, is_inside) if keeps_all else placed
            labels[rows[placed]] = first + found.labels[holders]
            members[rows[placed]] = rows[holders]
            probabilities[rows] = found.probabilities
            outlier_scores[rows] = found.outlier_scores
            core_distances[rows] = tree.core_distances
        parents += [parent] * len(of_children)
        lambdas += of_children
    if keeps_all:
        # Who had joined a cluster above goes where the member goes that it hangs on.
        joined = np.flatnonzero((above.labels >= 0) & ~is_member)
        labels[joined] = labels[above.members[joined]]
        members[joined] = members[above.members[joined]]
    births, max_lambdas = np.array(lambdas, np.float64).reshape(-1, 2).T
    return Level(
        labels,
        members,
        probabilities,
        outlier_scores,
        core_distances,
        np.array(parents, np.int64),
        births,
        max_lambdas,
    )


def _lambdas(found: Clustering) -> list[tuple[float, float]]:
    """The birth lambda and the largest one of each cluster, by label."""
    inside = np.flatnonzero(found.labels >= 0)
    _, one_of_each = np.unique(found.labels[inside], return_index=True)
    each = inside[one_of_each]
    return list(
        zip(found.birth_lambdas[each].tolist(), found.max_lambdas[each].tolist(), strict=True)
    )


def _rows_by_label(
    labels: NDArray[np.int64], is_member: NDArray[np.bool_], n_labels: int
) -> list[NDArray[np.int64]]:
    """The rows of each label that are members, ascending."""
    rows = np.flatnonzero(is_member & (labels >= 0))
    rows = rows[np.argsort(labels[rows], kind="stable")]
    # With no label there is one empty part still.
    return np.split(rows, np.searchsorted(labels[rows], np.arange(1, n_labels)))[:n_labels]


def hanging_on(tree: SpanningTree, is_member: NDArray[np.bool_]) -> NDArray[np.int64]:
    """For each point, (n,), the member that it hangs on: its own row for members, of whom there is one.

    From all members at once, the tree is walked along its shortest edge to a point not reached before;
    who is reached hangs on the member from which the walk came. So of all paths to members none has a
    shorter longest edge. Of equal edges, that to the lowest row is the first.
    """
    n = len(is_member)
    ends = tree.edges[:, :2].astype(np.int64)
    both = np.concatenate([ends, ends[:, ::-1]])
    # Only edges that lead to somebody who is not a member are walked.
    weights = np.tile(tree.edges[:, 2], 2)[~is_member[both[:, 1]]]
    both = both[~is_member[both[:, 1]]]
    order = np.argsort(both[:, 0], kind="stable")
    starts = np.searchsorted(both[order, 0], np.arange(n + 1)).tolist()
    steps = list(zip(weights[order].tolist(), both[order, 1].tolist(), strict=True))
    found: list[int] = np.where(is_member, np.arange(n), -1).tolist()
    heap = [
        (weight, to, member)
        for member in np.flatnonzero(is_member).tolist()
        for weight, to in steps[starts[member] : starts[member + 1]]
    ]
    heapq.heapify(heap)
    while heap:
        _, point, member = heapq.heappop(heap)
        if found[point] < 0:
            found[point] = member
            for weight, to in steps[starts[point] : starts[point + 1]]:
                heapq.heappush(heap, (weight, to, member))
    return np.array(found, np.int64)
