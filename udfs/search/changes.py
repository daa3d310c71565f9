"""What changed in a space since an index of it was built: left out of its answers, and searched exactly."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search import neighbors, stored_vectors
from nearsql.udfs.search.exact_search import exact_nearest
from nearsql.udfs.search.indexes import IndexRow
from nearsql.udfs.search.matrix import matrix_bytes, patched
from nearsql.udfs.search.memory import Older, Reserve, TooLarge, place_of, residents
from nearsql.udfs.search.stored_vectors import Matrix
from nearsql.udfs.spaces import Space

Ids = NDArray[np.int64]
Distances = NDArray[np.float64]


@dataclass(frozen=True, eq=False, slots=True)
class Changes:
    """The items of a space that were added, changed or deleted since an index was built.

    items: their ids, ascending. present: how many of them are there now. rows: the vectors of those that are there now; None when they do not fit
    the memory allowed, and are read from the file for each search.
    """

    items: Ids
    present: int
    rows: Matrix | None
    space: Space

    def nearest(
        self,
        db: apsw.Connection,
        queries: NDArray[np.float32],
        k: int,
        exclude: Sequence[int | None] | None,
        poll: Callable[[], None],
    ) -> tuple[Ids, Distances]:
        """The k nearest of them, as `neighbors.nearest` gives them."""
        if self.rows is None:
            return exact_nearest(
                db, self.space, queries, k, subset=self.items, exclude=exclude, poll=poll
            )
        return neighbors.nearest(self.rows, queries, k, exclude=exclude, poll=poll)

    def touch(self, items: Ids) -> NDArray[np.bool_]:
        """Whether each of the items is one of them."""
        places = np.minimum(np.searchsorted(self.items, items), len(self.items) - 1)
        return cast(Any, self.items[places] == items)


def changes_of(
    db: apsw.Connection, space: Space, row: IndexRow, poll: Callable[[], None]
) -> Changes | None:
    """What changed between the index and the space as it is given, None if nothing did.

    Reads what is not in memory yet.

    Raises SqlFunctionError when the log of changes does not tell.
    """
    if (space.generation, space.generation_token) == (row.generation, row.generation_token):
        return None

    def load(find_older: Older, reserve: Reserve) -> tuple[Any, Changes]:
        older: Changes | None = find_older()
        since = None
        if older is not None:
            before = older.space
            since = stored_vectors.changes_since(
                db, space, before.generation, before.generation_token
            )
        if older is None or since is None:  # it was of a transaction that was rolled back
            older = Changes(np.empty(0, np.int64), 0, _no_rows(space), space)
            since = _since_built(db, space, row)
        items = np.union1d(older.items, np.array([item for item, _ in since], np.int64))
        assert older.rows is not None  # what has none is not kept
        reserve(matrix_bytes(2 * len(older.rows.ids) + len(since), space.dimensions) + items.nbytes)
        rows = patched(db, space, older.rows, since, Poll(db))
        reserve(matrix_bytes(len(rows.ids), space.dimensions) + items.nbytes)
        return space, Changes(items, len(rows.ids), rows, space)

    key = (place_of(db), "changes", row.id, row.generation_token)
    what = f"what changed in space '{space.name}' since its {row.engine} index was built"
    try:
        return cast(Changes, residents.get(key, space, load, poll, what))
    except TooLarge:
        changes = _since_built(db, space, row)
        items = np.array([item for item, _ in changes], np.int64)
        present = sum(row_id is not None for _, row_id in changes)
        return Changes(items, present, None, space)


def count_changes(db: apsw.Connection, space: Space, row: IndexRow) -> int:
    """How many items changed since the index was built. Raises as `changes_of`, and reads no vectors."""
    return len(_since_built(db, space, row))


def _since_built(db: apsw.Connection, space: Space, row: IndexRow) -> list[tuple[int, int | None]]:
    changes = stored_vectors.changes_since(db, space, row.generation, row.generation_token)
    if changes is None:
        raise SqlFunctionError(
            f"the {row.engine} index of space '{space.name}' cannot be used: the log of changes does not "
            f"reach back to when it was built. Build it anew with `nearsql index FILE {space.name} "
            f"--engine {row.engine}`, drop it with --drop, or ask with exact = 1"
        )
    return changes


def _no_rows(space: Space) -> Matrix:
    return Matrix(np.empty(0, np.int64), np.empty((0, space.dimensions), np.float32), space)
