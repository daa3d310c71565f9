"""The nearest items of other folds: who may vote for an item in a cross-validation.

No item of a fold votes for another of the same fold, so that groups which share one never vote for
themselves. The neighbours are exact, in the order of (distance, id), and found once for the largest k.

Two ways lead to the same result. One kNN graph, a little wider than k, without each item's own fold:
its products are computed once for two items, and a graph that is stored is read. Items of which that
leaves too few are searched again. Or a search for each fold among all others, which multiplies more,
but finds no neighbour in vain: for groups so large that most of an item's neighbours are in its own fold.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple, Protocol

import apsw
import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search.exact_search import exact_graph_blocks, exact_nearest
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.search.memory import TooLarge
from nearsql.udfs.search.neighbors import graph_blocks
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.search.row_search import search_among
from nearsql.udfs.search.stored_graph import stored_graph
from nearsql.udfs.search.stored_vectors import vectors_of_items
from nearsql.udfs.search.symmetric_graph import is_worthwhile
from nearsql.udfs.spaces import Space

Check = Callable[[], None]

# Items whose neighbours are looked at, to choose a way.
_SAMPLE = 256
# Such a share of the items may be searched again after a graph.
_SHORT = 0.02
# A graph of more than so many times k neighbours is dearer than a search for each fold.
_WIDEST = 2.0
# Rows searched, or read from a stored graph, at a time.
_ROWS = 1 << 14


class Voters(NamedTuple):
    """The voters of some items. rows (m,): which items, by place; neighbors (m, k) int64: the places of
    their voters, nearest first; distances (m, k) float64. Behind the last voter, -1 at distance inf."""

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
    left = np.arange(len(items))
    width = _graph_width(search, folds, k)
    if width is not None:
        short = []
        for rows, places, distances in search.graph(width):
            found = _of_other_folds(rows, places, distances, folds, k)
            is_whole = _is_whole(found, folds, places.shape[1] == len(items) - 1)
            short.append(rows[~is_whole])
            yield found.take(is_whole)
        left = np.concatenate(short)
    for fold in np.unique(folds[left]):
        others = np.flatnonzero(folds != fold)
        own = left[folds[left] == fold]
        for start in range(0, len(own), _ROWS):
            rows = own[start : start + _ROWS]
            places, distances = search.nearest(rows, k, others)
            yield Voters(rows, *_padded(places, distances, k))


class _Search(Protocol):
    """Searches among the items; rows and places count in them."""

    n: int

    def nearest(self, rows: Ids, k: int, among: Ids | None) -> tuple[Ids, Distances]:
        """The k nearest of each row among some, or of all others; padded by -1, inf."""

    def is_symmetric(self, k: int) -> bool:
        """Whether a graph of the k nearest takes half of the multiplications, or is stored."""

    def graph(self, k: int) -> Iterator[tuple[Ids, Ids, Distances]]:
        """(rows, places, distances) of the k nearest others of all items."""


class _InMemory:
    """A search in the space's matrix."""

    def __init__(self, db: apsw.Connection, matrix: Matrix, items: Ids, poll: Check) -> None:
        self.n, self._db, self._matrix, self._poll = len(items), db, matrix, poll
        self._rows = None if len(items) == len(matrix.ids) else matrix.positions(items)
        self._stored: tuple[Ids, Distances] | None = None

    def nearest(self, rows: Ids, k: int, among: Ids | None) -> tuple[Ids, Distances]:
        searched = self._of(among) if among is not None else self._rows
        search = search_among(self._matrix, searched)
        queries = self._matrix.vectors[self._of(rows)]
        own = rows if among is None else None
        places, distances = search.nearest(queries, k, own, self._poll)
        if among is not None:
            places = np.where(places < 0, -1, among[places])
        return places, distances

    def _of(self, rows: Ids) -> Ids:
        return rows if self._rows is None else self._rows[rows]

    def is_symmetric(self, k: int) -> bool:
        if self._rows is None:
            self._stored = stored_graph(self._db, self._matrix, k)
        return self._stored is not None or is_worthwhile(
            search_among(self._matrix, self._rows), min(k, self.n - 1), 0
        )

    def graph(self, k: int) -> Iterator[tuple[Ids, Ids, Distances]]:
        if self._stored is not None:
            places, distances = self._stored
            for start in range(0, self.n, _ROWS):
                some = slice(start, start + _ROWS)
                yield np.arange(start, min(start + _ROWS, self.n)), places[some], distances[some]
            return
        for start, block, block_distances in graph_blocks(
            self._matrix, k, rows=self._rows, poll=self._poll
        ):
            yield np.arange(start, start + len(block)), block, block_distances


class _FromFile:
    """A search that reads a space too large for the memory allowed."""

    def __init__(self, db: apsw.Connection, space: Space, items: Ids, poll: Check) -> None:
        self.n, self._db, self._space, self._items, self._poll = len(items), db, space, items, poll

    def nearest(self, rows: Ids, k: int, among: Ids | None) -> tuple[Ids, Distances]:
        own = self._items[rows]
        ids, distances = exact_nearest(
            self._db,
            self._space,
            vectors_of_items(self._db, self._space, own).vectors,
            k,
            subset=self._items if among is None else self._items[among],
            exclude=own if among is None else None,
            poll=self._poll,
        )
        return np.where(ids < 0, -1, np.searchsorted(self._items, ids)), distances

    def is_symmetric(self, k: int) -> bool:
        return True  # the file is read once for many items

    def graph(self, k: int) -> Iterator[tuple[Ids, Ids, Distances]]:
        for own, ids, distances in exact_graph_blocks(
            self._db, self._space, k, subset=self._items, poll=self._poll
        ):
            yield (
                np.searchsorted(self._items, own),
                np.searchsorted(self._items, ids),
                distances,
            )


def _graph_width(search: _Search, folds: Ids, k: int) -> int | None:
    """How many neighbours a graph must have, so that nearly all items have k in other folds.

    By a sample of the items. None where a search for each fold is the better way.
    """
    n = search.n
    widest = min(n - 1, int(_WIDEST * k) + 16)
    rows = np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64)
    rows = np.unique(rows)
    places, _ = search.nearest(rows, widest, None)
    is_other = (folds[places] != folds[rows][:, None]) & (places >= 0)
    # After how many neighbours each has k of other folds; one more than there are, if it never has.
    needed = (np.cumsum(is_other, axis=1) < k).sum(axis=1) + 1
    width = int(np.quantile(needed, 1 - _SHORT, method="higher"))
    return width if width <= widest and search.is_symmetric(width) else None


def _is_whole(found: Voters, folds: Ids, is_of_all: bool) -> NDArray[np.bool_]:
    """Which rows have all the voters they can have. is_of_all: they were chosen from all items."""
    if is_of_all or not found.neighbors.shape[1]:
        return np.ones(len(found.rows), np.bool_)
    return np.asarray(found.neighbors[:, -1] >= 0)


def _of_other_folds(rows: Ids, places: Ids, distances: Distances, folds: Ids, k: int) -> Voters:
    neighbors = np.full((len(rows), k), -1, np.int64)
    nearest = np.full((len(rows), k), np.inf)
    _choose(rows, places, distances, folds, neighbors, nearest)
    return Voters(rows, neighbors, nearest)


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


def _padded(places: Ids, distances: Distances, k: int) -> tuple[Ids, Distances]:
    missing = ((0, 0), (0, k - places.shape[1]))
    return (
        np.pad(places, missing, constant_values=-1),
        np.pad(distances, missing, constant_values=np.inf),
    )
