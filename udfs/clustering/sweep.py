"""How clusters and noise depend on min_cluster_size: one spanning tree, cut once for each size.

The tree depends on min_samples alone, and takes nearly all the time. Cuts show at which sizes the
clustering holds and at which it falls over, which is no gradual affair: with one item more, dozens of
clusters can become two.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace

import numpy as np

from nearsql.udfs.clustering.linkage import single_linkage
from nearsql.udfs.clustering.spanning_tree import SpanningTree

# A cliff: from one size to the next the number of clusters changes by more than this many times the
# factor by which the size does,
CLIFF_FACTOR = 2.0
# or so large a share of all items becomes noise, stops being noise, or comes to or leaves the largest
# cluster.
CLIFF_SHARE = 0.2

# The sizes that are tried when none are named: so many times 1, 10, 100, ..., from the smallest on.
_STEPS = (2, 3, 5, 7, 10, 15)
_SMALLEST = 5


@dataclass(frozen=True, slots=True)
class SweepRow:
    """What one min_cluster_size finds among n items."""

    min_cluster_size: int
    clusters: int
    noise: int
    noise_share: float
    largest: int  # items of the largest cluster, 0 when there is none
    largest_share: float
    # The mean of the clusters', hdbscan's cluster_persistence_; None when there is none.
    persistence: float | None
    is_cliff: bool  # against the size before


def default_sizes(n: int) -> list[int]:
    """5, 7, 10, 15, 20, 30, ... up to half of n items, above which there cannot be two clusters."""
    upto = max(_SMALLEST, n // 2)
    sizes = []
    power = 1
    while power <= upto:
        sizes += [step * power for step in _STEPS if _SMALLEST <= step * power <= upto]
        power *= 10
    return sizes


def sweep(
    tree: SpanningTree,
    sizes: Sequence[int],
    *,
    cluster_selection_method: str = "eom",
    cluster_selection_epsilon: float = 0.0,
    poll: Callable[[], None] = lambda: None,
) -> Iterator[SweepRow]:
    """Cuts the tree at each of the sizes, ascending and distinct; the parameters are hdbscan.HDBSCAN's."""
    from hdbscan.hdbscan_ import _tree_to_labels

    hierarchy = single_linkage(tree.edges)
    before: SweepRow | None = None
    for size in sizes:
        poll()
        with np.errstate(invalid="ignore"):  # duplicates live to lambda = inf
            labels, _, persistences, _, _ = _tree_to_labels(
                None,
                hierarchy,
                size,
                cluster_selection_method=cluster_selection_method,
                cluster_selection_epsilon=float(cluster_selection_epsilon),
            )
        members = np.bincount(labels[labels >= 0])
        noise = int(np.count_nonzero(labels < 0))
        largest = int(members.max(initial=0))
        row = SweepRow(
            size,
            len(members),
            noise,
            noise / len(labels),
            largest,
            largest / len(labels),
            float(np.mean(persistences)) if len(members) else None,
            is_cliff=False,
        )
        if before is not None and is_cliff(before, row):
            row = replace(row, is_cliff=True)
        yield row
        before = row


def is_cliff(before: SweepRow, row: SweepRow) -> bool:
    """Whether the clustering falls over between two sizes, by CLIFF_FACTOR and CLIFF_SHARE."""
    fewer, more = sorted((before.clusters, row.clusters))
    growth = row.min_cluster_size / before.min_cluster_size
    moved = max(
        abs(row.noise_share - before.noise_share), abs(row.largest_share - before.largest_share)
    )
    return more > CLIFF_FACTOR * growth * fewer or moved >= CLIFF_SHARE


def suggested_size(rows: Sequence[SweepRow]) -> int | None:
    """The size whose clusters persist longest: of those with no cliff beside them, and none of whose
    clusters has more than half of the items.

    Where there is no such size, of those with no cliff, or of all. The smallest of several; None when no
    size finds clusters.
    """
    edges = {edge for i, row in enumerate(rows) if row.is_cliff for edge in (i - 1, i)}
    found = [(i, row) for i, row in enumerate(rows) if row.persistence is not None]
    calm = [(i, row) for i, row in found if i not in edges]
    parted = [(i, row) for i, row in calm if row.largest_share <= 0.5]
    candidates = [row for _, row in parted or calm or found]
    best = max(candidates, key=lambda row: row.persistence or 0.0, default=None)
    return None if best is None else best.min_cluster_size
