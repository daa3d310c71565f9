"""Duplicates: rows of a matrix that lie within a threshold of each other, grouped transitively.

A kNN graph names the pairs. Where all k neighbours of a row are within the threshold there may be more:
such rows are searched for more, until one is farther. So no pair is missed, whatever k was.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nearsql.udfs.findings.identical import identical_rows, pair_distances, without_rounding
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import nearest, neighbor_graph
from nearsql.udfs.search.query_blocks import Distances, Ids

# Neighbours of each row in the graph that the search starts from: few rows have more duplicates.
NEIGHBORS = 10
# A row with too few neighbours is searched for so many times as many.
_GROWTH = 4
# Neighbours that are looked for together, of all rows of a block: 64 MB.
_CELLS = 1 << 22

Poll = Callable[[], None]
Graph = tuple[Ids, Distances]


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What each of n rows duplicates; all arrays are (n,).

    groups: the place of the first row of its group; a row without duplicates is a group of its own.
    others: the place of the row that it is shown beside, -1 without duplicates. That is a row with the
    same content, the first of them; or else the nearest within the threshold of those before it; or else
    the nearest. distances: to that row, NaN without.
    """

    groups: Ids
    others: Ids
    distances: Distances


def duplicate_groups(
    matrix: Matrix, threshold: float, poll: Poll | None = None, *, graph: Graph | None = None
) -> Ids:
    """The place of the first row of each row's group of near-duplicates, (n,) int64.

    Two rows are in one group when they are at most `threshold` apart, in the space's metric, or are
    linked by others that are. graph: `neighbor_graph(matrix, k)` for any k, where there is one.
    """
    return find_duplicates(matrix, threshold, poll, graph=graph).groups


def find_duplicates(
    matrix: Matrix,
    threshold: float,
    poll: Poll | None = None,
    *,
    graph: Graph | None = None,
    same: Ids | None = None,
) -> Duplicates:
    """The near-duplicates of every row. The arguments are those of `duplicate_groups`.

    same: (n,), the place of the first row with the same content. Such rows are duplicates at any distance.
    """
    n = len(matrix.ids)
    own = np.arange(n)
    same = own if same is None else same
    places, distances = neighbor_graph(matrix, NEIGHBORS, poll=poll) if graph is None else graph
    twins = identical_rows(matrix)
    distances = without_rounding(places, distances, twins)
    links = _Links(n)
    links.add(own, places, distances, threshold)
    for block in complete_neighbors(matrix, places, distances, threshold, twins, poll):
        links.add(*block, threshold)
    for first in (twins, same):
        links.join(own, first)
    others, measured = links.others, links.distances
    copies = np.flatnonzero(twins != own)
    others[copies], measured[copies] = twins[copies], 0.0
    copies = np.flatnonzero(same != own)
    others[copies] = same[copies]
    others[same[copies[::-1]]] = copies[::-1]  # of several, the first is written last
    changed = np.unique(np.concatenate([copies, same[copies]]))
    measured[changed] = pair_distances(matrix, changed, others[changed], twins)
    return Duplicates(links.groups(), others, measured)


def complete_neighbors(
    matrix: Matrix,
    places: Ids,
    distances: Distances,
    threshold: float,
    twins: Ids,
    poll: Poll | None = None,
) -> Iterator[tuple[Ids, Ids, Distances]]:
    """All rows within the threshold of those rows whose neighbours in the graph are not all there are.

    In blocks: (rows (m,), places (m, k), distances (m, k)), each row once. Only the first of identical
    rows is searched for, and only such rows are found, so that a thousand copies are not a million pairs.
    """
    n, width = places.shape
    own = np.arange(n)
    if not width or width >= n - 1:
        return
    firsts = np.flatnonzero(twins == own)
    subset = None if len(firsts) == n else matrix.ids[firsts]
    rows = np.flatnonzero((distances[:, -1] <= threshold) & (twins == own))
    k = width
    while len(rows) and len(firsts) > 1:
        k = min(k * _GROWTH, len(firsts) - 1)
        left = []
        step = max(1, _CELLS // k)
        for start in range(0, len(rows), step):
            block = rows[start : start + step]
            ids, far = nearest(
                matrix,
                matrix.vectors[block],
                k,
                subset=subset,
                exclude=matrix.ids[block],
                poll=poll,
            )
            is_all = (far[:, -1] > threshold) | (k == len(firsts) - 1)
            left.append(block[~is_all])
            yield block[is_all], np.searchsorted(matrix.ids, ids[is_all]), far[is_all]
        rows = np.concatenate(left)


class _Links:
    """The links within the threshold that are known so far: groups, and each row's nearest."""

    def __init__(self, n: int) -> None:
        self._groups = np.arange(n)
        self.others = np.full(n, -1)
        self.distances = np.full(n, np.nan)

    def add(self, rows: Ids, places: Ids, distances: Distances, threshold: float) -> None:
        """Rows, (m,), and their neighbours by (distance, place), (m, k)."""
        if not distances.size:
            return
        is_near = distances <= threshold
        row, column = np.nonzero(is_near)
        self.join(rows[row], places[row, column])
        is_before = is_near & (places < rows[:, None])
        has_before = is_before.any(axis=1)
        chosen = np.where(has_before, is_before.argmax(axis=1), is_near.argmax(axis=1))
        # What a wider search finds is nearer only by being before the row.
        which = np.flatnonzero(has_before | (is_near.any(axis=1) & (self.others[rows] < 0)))
        self.others[rows[which]] = places[which, chosen[which]]
        self.distances[rows[which]] = distances[which, chosen[which]]

    def join(self, rows: Ids, others: Ids) -> None:
        """Puts each row, (m,), into one group with its other."""
        from scipy.sparse import coo_array
        from scipy.sparse.csgraph import connected_components

        a, b = self._groups[rows], self._groups[others]
        is_new = a != b
        if is_new.any():
            n = len(self._groups)
            pairs = (np.ones(int(is_new.sum())), (a[is_new], b[is_new]))
            _, component = connected_components(coo_array(pairs, shape=(n, n)), directed=False)
            self._groups = component.astype(np.int64)[self._groups]

    def groups(self) -> Ids:
        """The place of the first row of each row's group, (n,)."""
        _, first, which = np.unique(self._groups, return_index=True, return_inverse=True)
        return first[which]
