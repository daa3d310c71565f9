"""Search by a persistent index: approximate in which rows it looks at, exact in what it says of them.

The index gives candidates. Those that changed since it was built are dropped; the distances of the
others are computed in float64 from their stored rows, as the exact search does; what changed is searched
exactly; and the results are merged in the order of (distance, id). So a distance is always right and no
neighbour is out of date; only a near row that the index did not give can be missing, as seldom as the
recall recorded with the index says.
"""

from collections.abc import Callable, Sequence
from typing import Protocol

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search import stored_vectors, vec0_index
from nearsql.udfs.search.changes import Changes, changes_of
from nearsql.udfs.search.exact_distances import exact_distances, exact_distances_to_rows
from nearsql.udfs.search.exact_search import exact_nearest
from nearsql.udfs.search.indexes import (
    IndexRow,
    OpenedIndex,
    damaged,
    opened_index,
    part_length,
    read_part,
)
from nearsql.udfs.search.matrix import resident_matrix
from nearsql.udfs.search.opened_index import DamagedIndex
from nearsql.udfs.search.stored_vectors import squared_norms
from nearsql.udfs.spaces import Space

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]
Distances = NDArray[np.float64]

# Queries whose candidates are looked at together, and the bytes of vectors that are read for them.
_QUERY_BLOCK = 128
_READ_BYTES = 1 << 26
_MOST_CANDIDATES = 4096


def index_nearest(
    db: apsw.Connection,
    space: Space,
    row: IndexRow,
    queries: Vectors,
    k: int,
    exclude: Sequence[int | None],
    poll: Callable[[], None],
) -> tuple[Ids, Distances]:
    """The k nearest items of each query, (ids, distances) as `exact_nearest` gives them.

    queries: (m, d) finite float32. k: at most row.largest_k. exclude: (m,) for each the item that it must
    not find, or None. The connection must be held on one snapshot, of which `space` is. A query gets the
    same neighbours alone and among others. Raises SqlFunctionError for an index that cannot be used.
    """
    changes = changes_of(db, space, row, poll)
    try:
        if row.engine == "vec0":
            source: _Source = _Vec0Source(db, space, row, poll)
        else:
            source = faiss_source = _FaissSource(db, space, row, poll)
            if changes is None and len(queries) == 1:
                found = faiss_source.nearest_of_one(queries, k, exclude[0])
                if found is not None:
                    return found
        return _Search(db, space, row, source, changes, k, poll).nearest(queries, exclude)
    except DamagedIndex as error:
        raise damaged(row.engine, space, str(error)) from error


class _Source(Protocol):
    """What an engine gives: candidates as places, and the items and rows that are there.

    most: so many candidates of a query may be asked for.
    """

    most: int

    def candidates(self, queries: Vectors, c: int, effort: int) -> Ids:
        """(m, >= c) places, -1 where there is none."""

    def items(self, places: Ids) -> Ids:
        """The item ids of places."""

    def unchanged(self, changes: Changes | None) -> int:
        """How many of its items are as they were when it was built."""

    def has(self, item: int) -> bool:
        """Whether an item is in it."""

    def vectors(self, places: Ids) -> tuple[Vectors, Distances]:
        """The stored vectors at places, ascending and each once, and their squared norms."""


class _Search:
    """The search of one space by one index."""

    def __init__(
        self,
        db: apsw.Connection,
        space: Space,
        row: IndexRow,
        source: _Source,
        changes: Changes | None,
        k: int,
        poll: Callable[[], None],
    ) -> None:
        self.db, self.space, self.source, self.changes = db, space, source, changes
        self.k, self.poll = k, poll
        how = row.how(k)
        self.effort = how.effort
        self.wanted = how.candidates * k
        self.unchanged = source.unchanged(changes)

    def nearest(self, queries: Vectors, exclude: Sequence[int | None]) -> tuple[Ids, Distances]:
        """As `index_nearest`."""
        items = np.array([-1 if item is None else item for item in exclude], np.int64)
        is_item = np.array([item is not None for item in exclude], np.bool_)
        ids = np.empty((len(queries), self.k), np.int64)
        distances = np.empty((len(queries), self.k), np.float64)
        for start in range(0, len(queries), _QUERY_BLOCK):
            part = slice(start, start + _QUERY_BLOCK)
            ids[part], distances[part] = self._block(queries[part], items[part], is_item[part])
            self.poll()
        width = int((distances < np.inf).sum(axis=1).max(initial=0))
        return ids[:, :width], distances[:, :width]

    def _block(
        self, queries: Vectors, items: Ids, is_item: NDArray[np.bool_]
    ) -> tuple[Ids, Distances]:
        """The k nearest of each query, (m, k), padded with -1 at inf."""
        ids = np.full((len(queries), self.k), -1, np.int64)
        distances = np.full((len(queries), self.k), np.inf)
        exactly = np.zeros(len(queries), np.bool_)
        if self.space.metric != "l2":  # zeros are equally far from everything: the first by id
            exactly = ~np.any(queries, axis=1)
        left = np.flatnonzero(~exactly)
        # One more, since an item that is a query finds itself.
        c, effort = self.wanted + 1, self.effort
        while len(left):
            if c > self.source.most:
                exactly[left] = True
                break
            places = self.source.candidates(queries[left], c, effort)
            kept = self._kept(places, items[left], is_item[left])
            # As many as recall was measured with, whatever was dropped; or all that there are.
            enough = kept.sum(axis=1) >= self._possible(items[left], is_item[left])
            done = left[enough]
            ids[done], distances[done] = self._nearest(queries[done], places[enough], kept[enough])
            left = left[~enough]
            c, effort = 2 * c, 2 * effort
        self._merge_changes(queries, items, is_item, ids, distances)
        for i in np.flatnonzero(exactly):
            ids[i], distances[i] = self._exactly(queries[i], int(items[i]) if is_item[i] else None)
        return ids, distances

    def _kept(self, places: Ids, items: Ids, is_item: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Which candidates are there, did not change, and are not the query itself, (m, c)."""
        kept = places >= 0
        found = self.source.items(places)
        kept &= (found != items[:, None]) | ~is_item[:, None]
        if self.changes is not None:
            kept &= ~self.changes.touch(found)
        return kept

    def _possible(self, items: Ids, is_item: NDArray[np.bool_]) -> Ids:
        """How many candidates each query must have kept."""
        if self.unchanged > self.wanted:
            return np.full(len(items), self.wanted)
        itself = is_item & np.array([self.source.has(item) for item in items.tolist()])
        if self.changes is not None:
            itself &= ~self.changes.touch(items)
        return np.minimum(self.wanted, self.unchanged - itself)

    def _nearest(
        self, queries: Vectors, places: Ids, kept: NDArray[np.bool_]
    ) -> tuple[Ids, Distances]:
        """The k nearest of the candidates that were kept, (m, k)."""
        m, c = places.shape
        ids = np.full((m, self.k), -1, np.int64)
        distances = np.full((m, self.k), np.inf)
        step = max(1, _READ_BYTES // (4 * self.space.dimensions * max(1, c)))
        for start in range(0, m, step):
            part = slice(start, start + step)
            ids[part], distances[part] = self._by_distance(queries[part], places[part], kept[part])
        return ids, distances

    def _by_distance(
        self, queries: Vectors, places: Ids, kept: NDArray[np.bool_]
    ) -> tuple[Ids, Distances]:
        looked_at = np.unique(places[kept])
        if not len(looked_at):
            return np.full((len(places), self.k), -1), np.full((len(places), self.k), np.inf)
        vectors, squares = self.source.vectors(looked_at)
        rows = np.searchsorted(looked_at, np.where(kept, places, looked_at[0]))
        distances = exact_distances(
            vectors, rows, queries, self.space.metric, squares[rows], squared_norms(queries)
        )
        distances[~kept] = np.inf
        ids = np.where(kept, self.source.items(places), -1)
        return _first(ids, distances, self.k)

    def _merge_changes(
        self,
        queries: Vectors,
        items: Ids,
        is_item: NDArray[np.bool_],
        ids: Ids,
        distances: Distances,
    ) -> None:
        """Adds the nearest of what changed to what was found."""
        if self.changes is None:
            return
        exclude = [
            item if there else None
            for item, there in zip(items.tolist(), is_item.tolist(), strict=True)
        ]
        new_ids, new = self.changes.nearest(self.db, queries, self.k, exclude, self.poll)
        ids[:], distances[:] = _first(
            np.concatenate([ids, new_ids], axis=1),
            np.concatenate([distances, new], axis=1),
            self.k,
        )

    def _exactly(self, query: Vectors, item: int | None) -> tuple[Ids, Distances]:
        """The k nearest of one query for which the index does not do, (k,)."""
        if not query.any() and self.space.metric != "l2":
            ids = self._first_items(item)[None, :]
            distances = np.full(ids.shape, 1.0 if self.space.metric == "cosine" else 0.0)
        else:
            ids, distances = exact_nearest(
                self.db, self.space, query[None, :], self.k, exclude=[item], poll=self.poll
            )
        ids, distances = _first(ids, distances, self.k)
        return ids[0], distances[0]

    def _first_items(self, item: int | None) -> Ids:
        ids, _ = stored_vectors.rows_of_space(self.db, self.space, limit=self.k + 1)
        return ids[ids != item][: self.k] if item is not None else ids[: self.k]


def _first(ids: Ids, distances: Distances, k: int) -> tuple[Ids, Distances]:
    """The first k of each row by (distance, id), (m, k), padded with -1 at inf.

    Raises DamagedIndex when an item is there twice.
    """
    if ids.shape[1] < k:
        missing = ((0, 0), (0, k - ids.shape[1]))
        ids = np.pad(ids, missing, constant_values=-1)
        distances = np.pad(distances, missing, constant_values=np.inf)
    order = np.lexsort((ids, distances), axis=1)[:, :k]
    ids, distances = np.take_along_axis(ids, order, 1), np.take_along_axis(distances, order, 1)
    if ((ids[:, 1:] == ids[:, :-1]) & (distances[:, 1:] < np.inf)).any():
        raise DamagedIndex("an item is in it twice")
    return ids, distances


class _FaissSource:
    """An hnsw or ivf index. A place is the position of an item among those it was built from."""

    def __init__(
        self, db: apsw.Connection, space: Space, row: IndexRow, poll: Callable[[], None]
    ) -> None:
        self.db, self.space, self.row, self.poll = db, space, row, poll
        self.opened: OpenedIndex = opened_index(db, space, row, poll)
        self.matrix = resident_matrix(db, space)
        # Then each item has the same place in both.
        self.is_matrix_aligned = (space.generation, space.generation_token) == (
            row.generation,
            row.generation_token,
        )
        # Beyond so many, or the quarter of a space, the exact search is as quick.
        self.most = max(_MOST_CANDIDATES, row.n // 4)

    def candidates(self, queries: Vectors, c: int, effort: int) -> Ids:
        def read(part: int, length: int) -> NDArray[np.uint8]:
            return read_part(self.db, self.row.id, part, length)

        n = self.row.n
        return self.opened.index.candidates(queries, min(c, n), min(effort, n), read)

    def nearest_of_one(
        self, queries: Vectors, k: int, item: int | None
    ) -> tuple[Ids, Distances] | None:
        """What `_Search.nearest` finds for one query (1, d) when nothing changed, in fewer steps.

        None where the candidates do not suffice. A search takes so little that the steps count.
        """
        if self.space.metric != "l2" and not queries.any():
            return None
        how = self.row.how(k)
        places = self.candidates(queries, how.candidates * k + 1, how.effort)[0]
        ids = self.opened.ids[places]
        if item is not None:
            other = ids != item
            ids, places = ids[other], places[other]
        if len(places) < how.candidates * k or places[-1] < 0:  # the missing ones come last
            return None
        vectors, squares = self.vectors(places, ids)
        distances = exact_distances_to_rows(vectors, queries[0], self.space.metric, squares)
        order = np.lexsort((ids, distances))[:k]
        ids = ids[order]
        if len(set(ids.tolist())) < len(ids):
            raise DamagedIndex("an item is in it twice")
        return ids[None, :], distances[order][None, :]

    def items(self, places: Ids) -> Ids:
        return self.opened.ids[places]

    def unchanged(self, changes: Changes | None) -> int:
        if changes is None:
            return self.row.n
        return self.row.n - int(np.isin(changes.items, self.opened.ids).sum())

    def has(self, item: int) -> bool:
        place = int(np.searchsorted(self.opened.ids, item))
        return place < self.row.n and bool(self.opened.ids[place] == item)

    def vectors(self, places: Ids, items: Ids | None = None) -> tuple[Vectors, Distances]:
        """items: their item ids, by whom they are known already."""
        if items is None:
            items = self.opened.ids[places]
        matrix = self.matrix
        if matrix is not None and len(matrix.ids):
            rows = places
            if not self.is_matrix_aligned or len(matrix.ids) != self.row.n:
                rows = np.minimum(np.searchsorted(matrix.ids, items), len(matrix.ids) - 1)
            if not (matrix.ids[rows] == items).all():
                raise DamagedIndex("an item that it names has no vector")
            return matrix.vectors.take(rows, axis=0), matrix.squared_norms[rows]
        out = np.empty((len(places), self.space.dimensions), np.float32)
        try:
            norms = stored_vectors.read_rows(
                self.db, self.space, self.opened.row_ids[places], items, out, self.poll
            )
        except apsw.SQLError as error:  # no such row
            raise DamagedIndex("a row that it names is not there") from error
        return out, norms


class _Vec0Source:
    """A virtual table of sqlite-vec. A place is that of an item among those found last."""

    most = vec0_index.MOST_CANDIDATES

    def __init__(
        self, db: apsw.Connection, space: Space, row: IndexRow, poll: Callable[[], None]
    ) -> None:
        self.db, self.space = db, space
        length = part_length(db, row.id, vec0_index.ZEROS)
        data = read_part(db, row.id, vec0_index.ZEROS, length, poll)
        self.zeros = data.view("<i8").astype(np.int64)

        self.found = np.empty(0, np.int64)

    def candidates(self, queries: Vectors, c: int, effort: int) -> Ids:
        lists = vec0_index.candidates(self.db, self.space, queries, c, self.zeros)
        self.found = np.unique(np.concatenate(lists))
        places = np.full((len(queries), max(map(len, lists))), -1, np.int64)
        for i, items in enumerate(lists):
            places[i, : len(items)] = np.searchsorted(self.found, items)
        return places

    def items(self, places: Ids) -> Ids:
        return self.found[places] if len(self.found) else places

    def unchanged(self, changes: Changes | None) -> int:
        rows = stored_vectors.count_rows(self.db, self.space)
        return rows - (changes.present if changes else 0)

    def has(self, item: int) -> bool:
        found = self.db.execute(
            "select 1 from vectors where space_id = ? and item_id = ?", (self.space.id, item)
        )
        return found.fetchone() is not None

    def vectors(self, places: Ids) -> tuple[Vectors, Distances]:
        matrix = stored_vectors.vectors_of_items(self.db, self.space, self.found[places])
        if len(matrix.ids) != len(places):
            raise DamagedIndex("an item that it names has no vector")
        return matrix.vectors, matrix.squared_norms
