"""The nearest items of other folds: who may vote for an item in a cross-validation.

No item of a fold votes for another of the same fold, so that groups which share one never vote for
themselves. The neighbours are exact, in the order of (distance, id), and found once for the largest k.

All items are compared with all, each product counting for both, as for a kNN graph; those of one fold
are left out where products are looked at. A kNN graph that is stored is read instead, where it has so many
more neighbours that nearly all items have enough in other folds. What either leaves open, and few items,
are searched for fold by fold, among the items of all others.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import apsw
import numpy as np
from numba import njit

from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search.exact_search import exact_graph_blocks, exact_nearest
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.search.memory import TooLarge
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.search.row_search import search_among
from nearsql.udfs.search.stored_graph import stored_graph
from nearsql.udfs.search.stored_vectors import vectors_of_items
from nearsql.udfs.search.symmetric_graph import SymmetricGraph, is_worthwhile
from nearsql.udfs.spaces import Space

Check = Callable[[], None]

# A stored graph, or one read from the file, has so many neighbours that an item lacks some by chance as
# seldom as a normal deviate is beyond so many standard deviations: one in 700.
_DEVIATIONS = 3.0
# Rows searched, or read from a stored graph, at a time.
_ROWS = 1 << 14


class Voters(NamedTuple):
    """The voters of some items. rows (m,): which items, by place; neighbors (m, k) int64: the places of
    their voters, nearest first; distances (m, k) float64. Where there are fewer than k, -1 at inf."""

    rows: Ids
    neighbors: Ids
    distances: Distances

    def take(self, which: Any) -> "Voters":
        """Those of some of the rows, by their index in the block."""
        return Voters(self.rows[which], self.neighbors[which], self.distances[which])


def voters(
    db: apsw.Connection,
    space: Space,
    items: Ids,
    folds: Ids,
    k: int,
    *,
    poll: Check | None = None,
) -> Iterator[Voters]:
    """The k nearest items of other folds, of each item once, in blocks and in any order.

    items: (n,) ids, ascending, all in the space. folds: (n,) from 0. Places count in items. Raises
    SqlFunctionError, as `exact_nearest`, for a stored NaN or infinity.
    """
    poll = poll or Poll(db)
    search: _Search
    try:
        search = _InMemory(db, load_matrix(db, space), items, poll)
    except TooLarge:
        search = _FromFile(db, space, items, poll)
    # How many voters the items of a fold can have.
    most = np.minimum(k, len(items) - np.bincount(folds))
    short = []
    for found in search.most(folds, k):
        is_whole = (found.neighbors >= 0).sum(axis=1) == most[folds[found.rows]]
        short.append(found.rows[~is_whole])
        yield found.take(is_whole)
    left = np.concatenate(short) if short else np.arange(len(items))
    for fold in np.unique(folds[left]):
        others = np.flatnonzero(folds != fold)
        own = left[folds[left] == fold]
        for start in range(0, len(own), _ROWS):
            rows = own[start : start + _ROWS]
            found = _nobody(rows, k)
            places, distances = search.nearest(rows, k, others)
            found.neighbors[:, : places.shape[1]] = places
            found.distances[:, : places.shape[1]] = distances
            yield found


def graph_width(folds: Ids, k: int) -> int:
    """How many neighbours a kNN graph must have, so that nearly all items have k in other folds.

    If folds are drawn at random, how many of w neighbours are in other folds is binomial, of mean w p and
    variance w p (1 - p): this is the w of which the mean is _DEVIATIONS standard deviations above k.
    """
    n = len(folds)
    p = 1 - (np.bincount(folds).max() - 1) / max(1, n - 1)
    spread = _DEVIATIONS * np.sqrt(p * (1 - p))
    width = ((spread + np.sqrt(spread**2 + 4 * p * k)) / (2 * p)) ** 2
    return int(min(n - 1, np.ceil(width)))


class _Search(Protocol):
    """Searches among the items; rows and places count in them."""

    def most(self, folds: Ids, k: int) -> Iterator[Voters]:
        """The voters of every item, once; without any where they are left to `nearest`. Or nothing."""

    def nearest(self, rows: Ids, k: int, among: Ids) -> tuple[Ids, Distances]:
        """(places, distances), (m, k'), of the nearest of each row among those at some places: k or all."""


class _InMemory:
    """A search in the space's matrix."""

    def __init__(self, db: apsw.Connection, matrix: Matrix, items: Ids, poll: Check) -> None:
        self._db, self._matrix, self._poll = db, matrix, poll
        self._rows = None if len(items) == len(matrix.ids) else matrix.positions(items)

    def most(self, folds: Ids, k: int) -> Iterator[Voters]:
        if self._rows is None:
            stored = stored_graph(self._db, self._matrix, graph_width(folds, k))
            if stored is not None:
                for start in range(0, len(folds), _ROWS):
                    rows = np.arange(start, min(start + _ROWS, len(folds)))
                    yield _of_other_folds(rows, stored[0][rows], stored[1][rows], folds, k)
                return
        search = search_among(self._matrix, self._rows)
        if k > len(folds) - np.bincount(folds).max() or not is_worthwhile(search, k, 0):
            return
        graph = SymmetricGraph(search, k, apart=folds)
        for start, places, distances in graph.blocks(self._poll):
            yield Voters(np.arange(start, start + len(places)), places, distances)
        rest = np.arange(graph.next, len(folds))  # when too many were left open
        if len(rest):
            yield _nobody(rest, k)

    def nearest(self, rows: Ids, k: int, among: Ids) -> tuple[Ids, Distances]:
        search = search_among(self._matrix, self._of(among))
        queries = self._matrix.vectors[self._of(rows)]
        places, distances = search.nearest(queries, k, None, self._poll)
        return among[places], distances

    def _of(self, rows: Ids) -> Ids:
        return rows if self._rows is None else self._rows[rows]


class _FromFile:
    """A search that reads a space too large for the memory allowed, so seldom as it may."""

    def __init__(self, db: apsw.Connection, space: Space, items: Ids, poll: Check) -> None:
        self._db, self._space, self._items, self._poll = db, space, items, poll

    def most(self, folds: Ids, k: int) -> Iterator[Voters]:
        for own, ids, distances in exact_graph_blocks(
            self._db, self._space, graph_width(folds, k), subset=self._items, poll=self._poll
        ):
            rows, places = np.searchsorted(self._items, own), np.searchsorted(self._items, ids)
            yield _of_other_folds(rows, places, distances, folds, k)

    def nearest(self, rows: Ids, k: int, among: Ids) -> tuple[Ids, Distances]:
        queries = vectors_of_items(self._db, self._space, self._items[rows]).vectors
        ids, distances = exact_nearest(
            self._db, self._space, queries, k, subset=self._items[among], poll=self._poll
        )
        return np.searchsorted(self._items, ids), distances


def _of_other_folds(rows: Ids, places: Ids, distances: Distances, folds: Ids, k: int) -> Voters:
    found = _nobody(rows, k)
    _choose(rows, places, distances, folds, found.neighbors, found.distances)
    return found


def _nobody(rows: Ids, k: int) -> Voters:
    return Voters(rows, np.full((len(rows), k), -1, np.int64), np.full((len(rows), k), np.inf))


@njit(cache=True, nogil=True)
def _choose(
    rows: Ids, places: Ids, distances: Distances, folds: Ids, neighbors: Ids, nearest: Distances
) -> None:
    """The first places of each row that are of other folds, into neighbors and nearest."""
    k = neighbors.shape[1]
    for i in range(len(rows)):
        own = folds[rows[i]]
        found = 0
        for j in range(places.shape[1]):
            if found == k:
                break
            place = places[i, j]
            if folds[place] != own:
                neighbors[i, found] = place
                nearest[i, found] = distances[i, j]
                found += 1
