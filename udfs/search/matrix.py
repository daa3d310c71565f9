"""A space's vectors as one matrix in memory, shared by all connections and threads of the process.

A matrix is loaded once and found again as long as the space's (generation, token) in the caller's
snapshot are those it was loaded at; so a cached matrix can be missing, but never stale.
"""

from dataclasses import dataclass
from functools import cached_property
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search import memory, stored_vectors
from nearsql.udfs.search.memory import Older, Reserve, place_of
from nearsql.udfs.spaces import Space


@dataclass(frozen=True, eq=False)
class Matrix:
    """The vectors of a space, as stored, at one generation. Never changed once made.

    ids: (n,) int64 item ids, ascending. vectors: (n, d) float32, C-contiguous; row i belongs to ids[i].
    space: the space, with the generation and token at which this was read.
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    space: Space

    @cached_property
    def squared_norms(self) -> NDArray[np.float64]:
        """The inner product of each row with itself, (n,) float64.

        Cosine needs them; kept instead of normalised rows, which would take as much memory again.
        """
        return stored_vectors.squared_norms(self.vectors)

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row positions of those of the item ids that are in the space, ascending, each once."""
        wanted = np.unique(np.asarray(ids, np.int64))
        places = np.searchsorted(self.ids, wanted)
        places = places[places < len(self.ids)]
        return cast(Any, places[self.ids[places] == wanted[: len(places)]])

    def position(self, item_id: int) -> int | None:
        """The row of one item, None if the space has no vector of it."""
        place = int(np.searchsorted(self.ids, item_id))
        if place < len(self.ids) and self.ids[place] == item_id:
            return place
        return None


def load_matrix(db: apsw.Connection, space: Space) -> Matrix:
    """The matrix of a space as the connection's current snapshot sees it.

    Without reading a vector when the process has it already. Raises TooLarge for a space that is larger
    than the memory allowed, and SqlFunctionError for a stored NaN or infinity.
    """
    poll = Poll(db)

    def load(older: Older, reserve: Reserve) -> tuple[Space, Matrix]:
        with stored_vectors.snapshot(db, space) as current:
            matrix = _read(db, current, older, reserve, poll)
        return matrix.space, matrix

    return cast(
        Matrix, memory.residents.get(_key(db, space), space, load, poll, f"space '{space.name}'")
    )


def resident_matrix(db: apsw.Connection, space: Space) -> Matrix | None:
    """The matrix of a space if the process has it in memory, without reading anything."""
    return cast(Matrix | None, memory.residents.peek(_key(db, space), space))


def matrix_bytes(rows: int, dimensions: int) -> int:
    """Bytes of a matrix: vectors, ids, squared norms."""
    return rows * (4 * dimensions + 16)


def _key(db: apsw.Connection, space: Space) -> tuple[Any, ...]:
    return place_of(db), "matrix", space.id


def _read(
    db: apsw.Connection,
    space: Space,
    find_older: Older,
    reserve: Reserve,
    poll: Poll,
) -> Matrix:
    """Reads a space into a new matrix: all of it, or what changed since an older matrix of it."""
    ((count,),) = cast(
        Any, db.execute("select count(*) from vectors where space_id = ?", (space.id,))
    )
    needed = matrix_bytes(count, space.dimensions)
    older: Matrix | None = find_older()
    if older is not None:
        changes = stored_vectors.changes_since(
            db, space, older.space.generation, older.space.generation_token
        )
        # When they are many, reading everything is as quick.
        if changes == []:  # it was renamed
            matrix = Matrix(older.ids, older.vectors, space)
            vars(matrix)["squared_norms"] = older.squared_norms
            return matrix
        both = needed + matrix_bytes(*older.vectors.shape)
        if (
            changes is not None
            and len(changes) <= len(older.ids) // 4
            and both <= memory.memory_limit()
        ):
            reserve(both)
            matrix = _patched(db, space, older, changes, poll)
            reserve(needed)
            return matrix
        del older  # so that its memory is free for the new one
    reserve(needed)
    ids, row_ids = stored_vectors.rows_of_space(db, space)
    vectors = np.empty((count, space.dimensions), np.float32)
    stored_vectors.read_rows(db, space, row_ids, ids, vectors, poll)
    vectors.flags.writeable = ids.flags.writeable = False
    return Matrix(ids, vectors, space)


def _patched(
    db: apsw.Connection,
    space: Space,
    older: Matrix,
    changes: list[tuple[int, int | None]],
    poll: Poll,
) -> Matrix:
    """A new matrix: the older one's rows but for the changed items, which are read.

    The older one stays as it is, since searches of other threads may be using it.
    """
    present = [(item, row) for item, row in changes if row is not None]
    new_ids = np.array([item for item, _ in present], np.int64)
    new_rows = np.array([row for _, row in present], np.int64)
    new_vectors = np.empty((len(new_ids), space.dimensions), np.float32)
    stored_vectors.read_rows(db, space, new_rows, new_ids, new_vectors, poll)

    stays = ~np.isin(older.ids, np.array([item for item, _ in changes], np.int64))
    kept_ids = older.ids[stays]
    places = np.searchsorted(kept_ids, new_ids)  # each goes before the kept row of that place
    ids = np.insert(kept_ids, places, new_ids)
    is_new = np.zeros(len(ids), np.bool_)
    is_new[places + np.arange(len(places))] = True
    vectors = np.empty((len(ids), space.dimensions), np.float32)
    vectors[is_new] = new_vectors
    sources = np.flatnonzero(stays)
    targets = np.flatnonzero(~is_new)
    # The kept rows lie in a few long runs, which are copied as memory.
    ends = np.flatnonzero((np.diff(sources) != 1) | (np.diff(targets) != 1)) + 1
    for run in np.split(np.arange(len(sources)), ends):
        if len(run):
            source, target = sources[run[0]], targets[run[0]]
            vectors[target : target + len(run)] = older.vectors[source : source + len(run)]
    vectors.flags.writeable = ids.flags.writeable = False
    matrix = Matrix(ids, vectors, space)
    if "squared_norms" in vars(older):
        norms = np.empty(len(ids), np.float64)
        norms[~is_new] = older.squared_norms[stays]
        norms[is_new] = stored_vectors.squared_norms(new_vectors)
        vars(matrix)["squared_norms"] = norms
    return matrix
