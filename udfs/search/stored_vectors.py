"""Reading vectors out of the file: which rows a space has, what changed, and the numbers themselves."""

import contextlib
import json
import sys
from collections import deque
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import chain
from queue import SimpleQueue
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search.file_readers import file_readers
from nearsql.udfs.search.workers import MANY_NUMBERS, in_threads
from nearsql.udfs.spaces import Space

Ids = NDArray[np.int64]

# Numbers of float64 that are computed on at a time, so that they stay in the CPU's caches.
_CACHED_NUMBERS = 1 << 16
# What is read before time limits and Ctrl-C may act: bytes for wide vectors, rows for narrow ones.
_READ_NUMBERS = 1 << 20
_READ_ROWS = 4096


@dataclass(frozen=True, eq=False)
class Matrix:
    """The vectors of a space or of some of its items, as stored, at one generation. Never changed.

    ids: (n,) int64 item ids, ascending. vectors: (n, d) float32, C-contiguous; row i belongs to ids[i].
    space: the space, with the generation and token at which this was read.
    """

    ids: Ids
    vectors: NDArray[np.float32]
    space: Space

    @cached_property
    def squared_norms(self) -> NDArray[np.float64]:
        """The inner product of each row with itself, (n,) float64.

        Cosine needs them; kept instead of normalised rows, which would take as much memory again.
        """
        return squared_norms(self.vectors)

    def positions(self, ids: Ids) -> Ids:
        """The row positions of those of the item ids that are in the matrix, ascending, each once."""
        wanted = np.asarray(ids, np.int64)
        if not (wanted[1:] > wanted[:-1]).all():  # sorting takes longer than this look
            wanted = np.unique(wanted)
        places = np.searchsorted(self.ids, wanted)
        places = places[places < len(self.ids)]
        return cast(Any, places[self.ids[places] == wanted[: len(places)]])

    def position(self, item_id: int) -> int | None:
        """The row of one item, None if the matrix has no vector of it."""
        place = int(np.searchsorted(self.ids, item_id))
        if place < len(self.ids) and self.ids[place] == item_id:
            return place
        return None


def new_matrix(
    ids: Ids, vectors: NDArray[np.float32], norms: NDArray[np.float64], space: Space
) -> Matrix:
    """A matrix whose squared norms are known already. The arrays are not to be written to any more."""
    ids.flags.writeable = vectors.flags.writeable = norms.flags.writeable = False
    matrix = Matrix(ids, vectors, space)
    vars(matrix)["squared_norms"] = norms
    return matrix


@contextlib.contextmanager
def snapshot(db: apsw.Connection, space: Space) -> Iterator[Space]:
    """Keeps the connection on one snapshot of the file; gives the space as it is in that.

    Raises SqlFunctionError when the space is not there any more.
    """
    statement = db.execute(
        "select generation, generation_token from spaces where id = ?", (space.id,)
    )
    try:
        # One row is taken and the statement left open: that holds the snapshot, even when no statement
        # of the caller holds one.
        row = next(statement, None)
        if row is None:
            raise SqlFunctionError(f"space '{space.name}' was deleted a moment ago")
        generation, token = cast(Any, row)
        yield replace(space, generation=generation, generation_token=token)
    finally:
        statement.close()


def count_rows(db: apsw.Connection, space: Space) -> int:
    """How many vectors a space has."""
    ((count,),) = db.execute("select count(*) from vectors where space_id = ?", (space.id,))
    return int(cast(Any, count))


def rows_of_space(
    db: apsw.Connection,
    space: Space,
    *,
    after: int | None = None,
    first: int = 0,
    limit: int = -1,
) -> tuple[Ids, Ids]:
    """(item ids, `vectors.id`) of a space, (n,) each, in the order of item ids.

    after: only of the items of larger ids. first: without so many at the beginning. limit: at most so
    many.
    """
    rows = db.execute(
        "select item_id, id from vectors where space_id = ?"
        + (" and item_id > ?" if after is not None else "")
        + " order by item_id limit ? offset ?",
        (space.id, *(() if after is None else (after,)), limit, first),
    )
    return _two_columns(rows)


def _two_columns(rows: Iterator[Any]) -> tuple[Ids, Ids]:
    pairs = np.fromiter(chain.from_iterable(rows), np.int64).reshape(-1, 2)
    return pairs[:, 0].copy(), pairs[:, 1].copy()


def rows_of_items(db: apsw.Connection, space: Space, item_ids: Ids) -> tuple[Ids, Ids]:
    """As `rows_of_space`, of those of the items that are in the space, each once."""
    rows = db.execute(
        "select v.item_id, v.id from json_each(?) i cross join vectors v"
        " on v.space_id = ? and v.item_id = i.value order by i.key",
        (json.dumps(np.unique(item_ids).tolist()), space.id),
    )
    return _two_columns(rows)


def vectors_of_items(db: apsw.Connection, space: Space, item_ids: Ids) -> Matrix:
    """The vectors of those of the items that are in the space, read from the file."""
    return read_matrix(db, space, *rows_of_items(db, space, item_ids))


def blocks(
    db: apsw.Connection, space: Space, rows: int, *, after: int | None = None
) -> Iterator[Matrix]:
    """The vectors of a space, `rows` at a time, in the order of item ids.

    after: only those of the items of larger ids. Between blocks no snapshot is held, unless the caller
    holds one; raises SqlFunctionError when the space was changed meanwhile, or is not what was given.
    """
    while True:
        with snapshot(db, space) as current:
            refuse_changed(space, current)
            ids, row_ids = rows_of_space(db, space, after=after, limit=rows)
            if not len(ids):
                return
            block = read_matrix(db, space, ids, row_ids)
        yield block
        after = int(ids[-1])
        del block


def refuse_changed(space: Space, current: Space) -> None:
    """Raises SqlFunctionError when a space is no longer of the generation that it was."""
    was = space.generation, space.generation_token
    if was != (current.generation, current.generation_token):
        raise SqlFunctionError(
            f"the vectors of space '{space.name}' changed while they were being read: run it again"
        )


def read_matrix(db: apsw.Connection, space: Space, ids: Ids, row_ids: Ids) -> Matrix:
    """The vectors of table rows: ids, row_ids as `rows_of_space` gives them."""
    vectors = np.empty((len(ids), space.dimensions), np.float32)
    norms = read_rows(db, space, row_ids, ids, vectors, Poll(db))
    return new_matrix(ids, vectors, norms, space)


def changes_since(
    db: apsw.Connection, space: Space, generation: int, token: int
) -> list[tuple[int, int | None]] | None:
    """The items changed since (generation, token), by id, with their `vectors.id`, or None if deleted.

    None when the log does not tell: it was shortened, or that generation was rolled back or is of
    another history.
    """
    if (generation, token) == (space.generation, space.generation_token):
        return []
    ((is_logged, entries),) = db.execute(
        "select exists (select 1 from vector_changes where space_id = :space and generation = :since"
        " and generation_token = :token),"
        " (select count(*) from vector_changes where space_id = :space"
        " and generation > :since and generation <= :until)",
        {"space": space.id, "since": generation, "until": space.generation, "token": token},
    )
    if not is_logged or entries != space.generation - generation:
        return None
    rows = db.execute(
        "select distinct c.item_id, v.id from vector_changes c"
        " left join vectors v on v.space_id = c.space_id and v.item_id = c.item_id"
        " where c.space_id = ? and c.generation > ? order by c.item_id",
        (space.id, generation),
    )
    return cast(Any, rows.fetchall())


def read_rows(
    db: apsw.Connection,
    space: Space,
    row_ids: Ids,
    ids: Ids,
    out: NDArray[np.float32],
    poll: Callable[[], None],
) -> NDArray[np.float64]:
    """Reads the vectors of table rows into the rows of `out`; gives their squared norms, (n,) float64.

    row_ids, ids: (n,) `vectors.id` and item ids. out: (n, d), C-contiguous. By incremental blob reads: no
    copy between SQLite's page cache and `out`. Raises SqlFunctionError, naming the item, for a blob of
    another length, and for one that holds a NaN or infinity.
    """
    norms = np.empty(len(out), np.float64)
    if not len(out):
        return norms
    step = max(1, min(_READ_ROWS, _READ_NUMBERS // space.dimensions))
    parts = [slice(start, start + step) for start in range(0, len(out), step)]

    def check(part: slice) -> None:
        if sys.byteorder == "big":
            out[part].byteswap(inplace=True)
        norms[part] = squared_norms(out[part])
        # No sum of squares of float32 numbers overflows float64.
        finite = np.isfinite(norms[part])
        if not finite.all():
            raise SqlFunctionError(
                f"the vector of item {ids[part][int(finite.argmin())]} in space '{space.name}' "
                "holds a NaN or infinity: write it anew, or delete it from `vectors`"
            )

    if len(parts) == 1:
        _read_blobs(db, space, row_ids, ids, out)
        check(parts[0])
        return norms
    if out.size >= MANY_NUMBERS:
        with file_readers(db, space) as readers:
            if readers:
                _read_in_threads(readers, space, row_ids, ids, out, parts, check, poll)
                return norms
    # One part is checked by another thread while the next one is read.
    checks: deque[Future[None]] = deque()
    with ThreadPoolExecutor(1, thread_name_prefix="nearsql-read") as checker:
        for part in parts:
            _read_blobs(db, space, row_ids[part], ids[part], out[part])
            checks.append(checker.submit(check, part))
            if len(checks) > 1:
                checks.popleft().result()
            poll()
        checks.pop().result()
    return norms


def _read_in_threads(
    readers: list[apsw.Connection],
    space: Space,
    row_ids: Ids,
    ids: Ids,
    out: NDArray[np.float32],
    parts: list[slice],
    check: Callable[[slice], None],
    poll: Callable[[], None],
) -> None:
    """Each part by one of the readers, and checked by the thread that read it."""
    idle: SimpleQueue[apsw.Connection] = SimpleQueue()
    for reader in readers:
        idle.put(reader)

    def read(part: slice) -> None:
        reader = idle.get()
        try:
            _read_blobs(reader, space, row_ids[part], ids[part], out[part])
        finally:
            idle.put(reader)
        check(part)

    in_threads(read, parts, out.size, poll)


def _read_blobs(
    db: apsw.Connection, space: Space, row_ids: Ids, ids: Ids, out: NDArray[np.float32]
) -> None:
    """The bytes of the rows, as they are stored."""
    size = 4 * space.dimensions
    into = memoryview(cast(Any, out)).cast("B")
    opened = db.blob_open("main", "vectors", "vector", int(row_ids[0]), False)
    # An interrupted blob is closed already, which its own `with` would report instead of the interrupt.
    with contextlib.closing(opened) as blob:
        for i, row_id in enumerate(row_ids.tolist()):
            blob.reopen(row_id)
            if blob.length() != size:
                raise SqlFunctionError(
                    f"the vector of item {ids[i]} in space '{space.name}' has {blob.length()} bytes, "
                    f"not the {size} of {space.dimensions} float32 numbers"
                )
            blob.read_into(into, i * size, size)


def squared_norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The inner product of each row with itself, (n,) float64."""
    n, dimensions = vectors.shape
    squares = np.empty(n, np.float64)
    step = max(1, min(n, _CACHED_NUMBERS // max(1, dimensions)))
    # One piece of memory for all blocks: asking for it anew each time costs more than the sums.
    scratch = np.empty((step, dimensions), np.float64)
    for start in range(0, n, step):
        block = scratch[: min(step, n - start)]
        np.copyto(block, vectors[start : start + step])
        np.multiply(block, block, out=block)
        block.sum(axis=1, out=squares[start : start + step])
    return squares
