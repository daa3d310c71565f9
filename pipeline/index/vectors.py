"""The vectors that an index is built of: in memory if there is room beside the index, else from the file."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search import memory
from nearsql.udfs.search.exact_distances import exact_distances
from nearsql.udfs.search.exact_search import exact_nearest
from nearsql.udfs.search.matrix import Matrix, load_matrix, matrix_bytes, resident_matrix
from nearsql.udfs.search.neighbors import nearest
from nearsql.udfs.search.stored_vectors import read_rows, rows_of_space, squared_norms
from nearsql.udfs.spaces import Space

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

# Bytes of vectors that are read from the file at a time.
_BLOCK_BYTES = 32 << 20
# Vectors gathered at a time to compute distances, in bytes.
_GATHERED_BYTES = 128 << 20


@dataclass(frozen=True)
class SpaceVectors:
    """A space's vectors at one generation; a place is a position in the order of item ids.

    ids, row_ids: (n,) item ids, ascending, and their `vectors.id`. matrix: None when they are read from
    the file each time, for which the caller keeps the connection on the snapshot they were found in.
    """

    db: apsw.Connection
    space: Space
    ids: Ids
    row_ids: Ids
    matrix: Matrix | None

    def __len__(self) -> int:
        return len(self.ids)

    def blocks(self) -> Iterator[Vectors]:
        """All vectors in order, as (b, d) blocks."""
        step = max(1, _BLOCK_BYTES // (4 * self.space.dimensions))
        for start in range(0, len(self), step):
            stop = min(start + step, len(self))
            if self.matrix is not None:
                yield self.matrix.vectors[start:stop]
            else:
                yield self.take(np.arange(start, stop))

    def take(self, places: Ids) -> Vectors:
        """The vectors at these places, (m, d)."""
        if self.matrix is not None:
            return self.matrix.vectors[places]
        out = np.empty((len(places), self.space.dimensions), np.float32)
        read_rows(self.db, self.space, self.row_ids[places], self.ids[places], out, Poll(self.db))
        return out

    def places_of(self, ids: Ids) -> Ids:
        """The places of item ids, -1 for those that are not among them."""
        places = np.minimum(np.searchsorted(self.ids, ids), len(self) - 1)
        return np.where(self.ids[places] == ids, places, -1)

    def exact_distances_to_nearest(
        self, places: Ids, k: int, advance: Callable[[int], None]
    ) -> NDArray[np.float64]:
        """The distances from the items at these places to their k nearest others, (m, k), inf where none."""
        out = np.empty((len(places), k), np.float64)
        step = 256 if self.matrix is not None else len(places)  # one pass over the file
        for start in range(0, len(places), max(1, step)):
            part = slice(start, start + step)
            queries, exclude = self.take(places[part]), self.ids[places[part]]
            if self.matrix is not None:
                found = nearest(self.matrix, queries, k, exclude=exclude)[1]
            else:
                found = exact_nearest(self.db, self.space, queries, k, exclude=exclude)[1]
            out[part, found.shape[1] :] = np.inf
            out[part, : found.shape[1]] = found
            advance(len(queries))
        return out

    def distances(self, queries: Vectors, places: Ids) -> NDArray[np.float64]:
        """The exact distance of each query to the vectors at its own places, (m, c), inf where -1."""
        step = max(1, _GATHERED_BYTES // max(1, 4 * self.space.dimensions * places.shape[1]))
        if self.matrix is not None:
            step = len(queries)
        out = np.empty(places.shape, np.float64)
        for start in range(0, len(queries), max(1, step)):
            part = slice(start, start + step)
            out[part] = self._distances(queries[part], places[part])
        out[places < 0] = np.inf
        return out

    def _distances(self, queries: Vectors, places: Ids) -> NDArray[np.float64]:
        rows = np.maximum(places, 0)
        if self.matrix is not None:
            vectors, squares = self.matrix.vectors, self.matrix.squared_norms
        else:
            needed, rows = np.unique(rows, return_inverse=True)
            rows = rows.reshape(places.shape)
            vectors = self.take(needed)
            squares = squared_norms(vectors)
        metric = self.space.metric
        return exact_distances(
            vectors, rows, queries, metric, squares[rows], squared_norms(queries)
        )


def read_space(db: apsw.Connection, space: Space, index_bytes: int) -> SpaceVectors:
    """The vectors of a space in the connection's snapshot: as a matrix if it fits beside the index.

    index_bytes: what the index will need. Raises SqlFunctionError for a NaN, infinity or wrong length.
    """
    ids, row_ids = rows_of_space(db, space)
    matrix = resident_matrix(db, space)
    needed = matrix_bytes(len(ids), space.dimensions) + index_bytes
    if matrix is None and needed <= memory.memory_limit():
        matrix = load_matrix(db, space)
    return SpaceVectors(db, space, ids, row_ids, matrix)
