"""Duplicates: rows of a matrix that lie within a threshold of each other, grouped transitively.

A kNN graph names the pairs. Where all k neighbours of a row are within the threshold there may be more:
such rows are searched for more, until one is farther. So no pair is missed, whatever k was.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from nearsql.udfs.findings.identical import identical_rows, pair_distances, without_rounding
from nearsql.udfs.findings.thresholds import near_threshold
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import nearest, neighbor_graph
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.space_points import part

# Neighbours of each row in the graph that the search starts from: few rows have more duplicates.
NEIGHBORS = 10
# A row with too few neighbours is searched for so many times as many.
_GROWTH = 4
# Neighbours that are looked for together, of all rows of a block: 64 MB.
_CELLS = 1 << 22

Poll = Callable[[], None]
Graph = tuple[Ids, Distances]


@dataclass(frozen=True, slots=True)
class NearLists:
    """Neighbours of some rows, by (distance, place): of every row, or of the first of identical ones only.

    rows: (m,) places, ascending. others: (m, k) places of their neighbours. distances: (m, k), 0 between
    identical rows. twins: (n,), `identical_rows`.
    """

    rows: Ids
    others: Ids
    distances: Distances
    twins: Ids


@dataclass(frozen=True, slots=True)
class Duplicates:
    """What each of n rows duplicates; all arrays are (n,).

    groups: the place of the first row of its group; a row without duplicates is a group of its own.
    others: the place of the row that it is shown beside, -1 without duplicates. That is the first with
    the same content; or else with the same numbers; or else the nearest within the threshold of those
    before it; or else the nearest. distances: to that row, NaN without.
    """

    groups: Ids
    others: Ids
    distances: Distances


def near_lists(matrix: Matrix, graph: Graph | None = None, poll: Poll | None = None) -> NearLists:
    """The neighbours that duplicates are looked for among.

    graph: `neighbor_graph(matrix, k)` for any k, where there is one. Otherwise that of the rows that are
    different is made: a search finds among thousands of copies nothing but copies, and slowly.
    """
    twins = identical_rows(matrix)
    if graph is not None:
        return NearLists(np.arange(len(twins)), graph[0], without_rounding(*graph, twins), twins)
    firsts = np.flatnonzero(twins == np.arange(len(twins)))
    places, distances = neighbor_graph(part(matrix, matrix.ids[firsts]), NEIGHBORS, poll=poll)
    return NearLists(firsts, firsts[places], distances, twins)


def threshold_of(lists: NearLists) -> float:
    """The `near_threshold` of a matrix: the same, whatever graph its lists are from."""
    if not lists.distances.size:
        return 0.0
    is_copied = np.bincount(lists.twins)[lists.twins] > 1
    return near_threshold(lists.distances[~is_copied[lists.rows], 0])


def duplicate_groups(
    matrix: Matrix, threshold: float, poll: Poll | None = None, *, graph: Graph | None = None
) -> Ids:
    """The place of the first row of each row's group of near-duplicates, (n,) int64.

    Two rows are in one group when they are at most `threshold` apart, in the space's metric, or are
    linked by others that are. graph: as in `near_lists`.
    """
    return find_duplicates(matrix, threshold, near_lists(matrix, graph, poll), poll).groups


def find_duplicates(
    matrix: Matrix,
    threshold: float,
    lists: NearLists,
    poll: Poll | None = None,
    *,
    same: Ids | None = None,
) -> Duplicates:
    """The near-duplicates of every row, as in `duplicate_groups`. lists: by `near_lists`.

    same: (n,), the place of the first row with the same content. Such rows are duplicates at any distance.
    """
    own = np.arange(len(matrix.ids))
    twins = lists.twins
    same = own if same is None else same
    links = _Links(len(own))
    links.add(lists.rows, lists.others, lists.distances, threshold)
    for block in complete_neighbors(matrix, lists, threshold, poll):
        links.add(*block, threshold)
    for first in (twins, same):
        links.join(own, first)
    _show_beside(links, twins)
    _show_beside(links, same)
    there = np.flatnonzero(links.others >= 0)
    measured = np.full(len(own), np.nan)
    measured[there] = pair_distances(matrix, there, links.others[there], twins)
    return Duplicates(links.groups(), links.others, measured)


def _show_beside(links: "_Links", first: Ids) -> None:
    """Shows rows beside the first that is like them, (n,), and that one, if need be, beside the next."""
    copies = np.flatnonzero(first != np.arange(len(first)))
    links.others[copies] = first[copies]
    links.others[first[copies[::-1]]] = copies[::-1]  # of several, the first is written last


def complete_neighbors(
    matrix: Matrix, lists: NearLists, threshold: float, poll: Poll | None = None
) -> Iterator[tuple[Ids, Ids, Distances]]:
    """All rows within the threshold of those rows whose lists end before it, each such row once.

    In blocks: (rows (m,), places (m, k), distances (m, k)). Only the first of identical rows is searched
    for, and only such rows are found, so that a thousand copies are not a million pairs.
    """
    width = lists.others.shape[1]
    firsts = np.flatnonzero(lists.twins == np.arange(len(lists.twins)))
    if not width or width >= len(matrix.ids) - 1:
        return
    subset = None if len(firsts) == len(matrix.ids) else matrix.ids[firsts]
    is_open = (lists.distances[:, -1] <= threshold) & (lists.twins[lists.rows] == lists.rows)
    rows = lists.rows[is_open]
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
    """The links within a threshold that are known so far: groups, and the row to show each row beside."""

    def __init__(self, n: int) -> None:
        self._groups = np.arange(n)
        self.others = np.full(n, -1)

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
        # A wider search may tell of a row that comes before, and of no nearer one.
        which = np.flatnonzero(has_before | (is_near.any(axis=1) & (self.others[rows] < 0)))
        self.others[rows[which]] = places[which, chosen[which]]

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
