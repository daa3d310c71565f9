"""A space's vectors as one matrix in memory, shared by all connections and threads of the process.

A matrix is loaded once and found again as long as the space's (generation, token) in the caller's
snapshot are those it was loaded at; so a cached matrix can be missing, but never stale. One that is
missing is made from an older one where the change log tells what changed.
"""

import weakref
from collections.abc import Sequence
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search import memory, stored_vectors
from nearsql.udfs.search.memory import Older, Reserve, place_of
from nearsql.udfs.search.stored_vectors import Matrix, new_matrix
from nearsql.udfs.spaces import Space

__all__ = ["Matrix", "load_matrix", "matrix_bytes", "patched", "resident_matrix"]

# Room for rows to come is kept behind a matrix: this share of its rows, and at least so many. The
# operating system gives memory only to those that are written.
_SPARE_SHARE = 16
_SPARE_ROWS = 1024
# Bytes copied before time limits and Ctrl-C may act.
_COPIED = 1 << 26

Changes = list[tuple[int, int | None]]


def load_matrix(db: apsw.Connection, space: Space) -> Matrix:
    """The matrix of a space as the connection's current snapshot sees it.

    Without reading a vector when the process has it already. Raises TooLarge for a space that is larger
    than the memory allowed, and SqlFunctionError for a stored NaN or infinity.
    """
    poll = Poll(db)

    def load(older: Older, reserve: Reserve) -> tuple[Space, Matrix]:
        with stored_vectors.snapshot(db, space) as current:
            matrix = _from_older(db, current, older(), reserve, poll)
            if matrix is None:
                matrix = _from_file(db, current, reserve, poll)
        return current, matrix

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


def _from_file(db: apsw.Connection, space: Space, reserve: Reserve, poll: Poll) -> Matrix:
    reserve(matrix_bytes(stored_vectors.count_rows(db, space), space.dimensions))
    ids, row_ids = stored_vectors.rows_of_space(db, space)
    room = _with_room(len(ids), space.dimensions)
    vectors = room[: len(ids)]
    norms = stored_vectors.read_rows(db, space, row_ids, ids, vectors, poll)
    matrix = new_matrix(ids, vectors, norms, space)
    _room[matrix] = room
    return matrix


def _from_older(
    db: apsw.Connection, space: Space, older: Matrix | None, reserve: Reserve, poll: Poll
) -> Matrix | None:
    """The older matrix with what changed since; None where reading everything is as quick, or needed."""
    if older is None:
        return None
    changes = stored_vectors.changes_since(
        db, space, older.space.generation, older.space.generation_token
    )
    if changes is None or len(changes) > len(older.ids) // 4:
        return None
    extended = _extended(db, space, older, changes, reserve, poll)
    if extended is not None:
        return extended
    both = matrix_bytes(2 * len(older.ids) + len(changes), space.dimensions)
    if both > memory.memory_limit():
        return None
    reserve(both)
    matrix = patched(db, space, older, changes, poll)
    reserve(matrix_bytes(*matrix.vectors.shape))
    return matrix


# The allocation that a matrix is the beginning of, for the one matrix that may be extended in it.
_room: weakref.WeakKeyDictionary[Matrix, NDArray[np.float32]] = weakref.WeakKeyDictionary()


def _with_room(rows: int, dimensions: int) -> NDArray[np.float32]:
    return np.empty((rows + max(_SPARE_ROWS, rows // _SPARE_SHARE), dimensions), np.float32)


def _extended(
    db: apsw.Connection,
    space: Space,
    older: Matrix,
    changes: Changes,
    reserve: Reserve,
    poll: Poll,
) -> Matrix | None:
    """The older matrix with new items after its last one, in the room behind its rows: nothing is copied.

    Searches that use the older one see its own rows only, which stay as they are. None when the changes
    are others, or there is no room.
    """
    n = len(older.ids)
    added = [(item, row) for item, row in changes if row is not None]
    gone = np.array([item for item, row in changes if row is None], np.int64)
    room = _room.get(older, older.vectors)
    if n + len(added) > len(room) or len(older.positions(gone)):
        return None
    if n and added and added[0][0] <= older.ids[-1]:
        return None
    reserve(matrix_bytes(n + len(added), space.dimensions))
    _room.pop(older, None)  # what is written there now belongs to the new one
    ids, row_ids = _columns(added)
    vectors = room[: n + len(added)]
    norms = stored_vectors.read_rows(db, space, row_ids, ids, vectors[n:], poll)
    matrix = new_matrix(
        np.concatenate([older.ids, ids]),
        vectors,
        np.concatenate([older.squared_norms, norms]),
        space,
    )
    _room[matrix] = room
    return matrix


def patched(
    db: apsw.Connection, space: Space, older: Matrix, changes: Changes, poll: Poll
) -> Matrix:
    """A new matrix: the older one's rows but for the changed items, which are read.

    The older one stays as it is, since searches of other threads may be using it.
    """
    changed, _ = _columns(changes)
    added = [(item, row) for item, row in changes if row is not None]
    new_ids, new_rows = _columns(added)
    new_vectors = np.empty((len(added), space.dimensions), np.float32)
    new_norms = stored_vectors.read_rows(db, space, new_rows, new_ids, new_vectors, poll)

    # Between two changed items there is a run of rows that stay; `starts` are where the runs begin and
    # `ends` where they end.
    ends = np.append(np.searchsorted(older.ids, changed), len(older.ids))
    starts = np.append(0, np.searchsorted(older.ids, changed, "right"))
    n = len(added) + int((ends - starts).sum())
    room = _with_room(n, space.dimensions)
    vectors, ids, norms = room[:n], np.empty(n, np.int64), np.empty(n, np.float64)
    new_places = []
    place = 0
    for start, end, row in zip(
        starts.tolist(), ends.tolist(), [*(row for _, row in changes), None], strict=True
    ):
        stop = place + end - start
        ids[place:stop] = older.ids[start:end]
        norms[place:stop] = older.squared_norms[start:end]
        _copy(older.vectors[start:end], vectors[place:stop], poll)
        place = stop
        if row is not None:
            new_places.append(place)
            place += 1
    ids[new_places], norms[new_places], vectors[new_places] = new_ids, new_norms, new_vectors
    matrix = new_matrix(ids, vectors, norms, space)
    _room[matrix] = room
    return matrix


def _copy(rows: NDArray[np.float32], out: NDArray[np.float32], poll: Poll) -> None:
    step = max(1, _COPIED // (4 * rows.shape[1]))
    for start in range(0, len(rows), step):
        out[start : start + step] = rows[start : start + step]
        poll()


def _columns(
    changes: Sequence[tuple[int, int | None]],
) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """The item ids, and the `vectors.id` where there is one (else 0)."""
    pairs = np.array([(item, row or 0) for item, row in changes], np.int64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()
