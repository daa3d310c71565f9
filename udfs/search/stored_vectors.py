"""Reading vectors out of the file: which rows a space has, what changed, and the numbers themselves."""

import contextlib
import sys
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.spaces import Space

Ids = NDArray[np.int64]
Poll = Callable[[], None]

# What numpy works on at once when it looks at every row: small enough to stay in the CPU's caches.
BLOCK_NUMBERS = 1 << 18


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


def rows_of_space(db: apsw.Connection, space: Space) -> tuple[Ids, Ids]:
    """(item ids, `vectors.id`) of a space, (n,) each, in the order of item ids."""
    ((count,),) = cast(
        Any, db.execute("select count(*) from vectors where space_id = ?", (space.id,))
    )
    ids, row_ids = np.empty(count, np.int64), np.empty(count, np.int64)
    rows = db.execute(
        "select item_id, id from vectors where space_id = ? order by item_id", (space.id,)
    )
    for i, row in enumerate(rows):
        ids[i], row_ids[i] = cast(Any, row)
    return ids, row_ids


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
    poll: Poll,
) -> None:
    """Reads the vectors of table rows into the rows of `out`, refusing what is not a finite number.

    row_ids, ids: (n,) `vectors.id` and item ids. out: (n, d). By incremental blob reads: no copy between
    SQLite's page cache and `out`. Raises SqlFunctionError, naming the item.
    """
    if not len(out):
        return
    opened = db.blob_open("main", "vectors", "vector", int(row_ids[0]), False)
    # An interrupted blob is closed already, which its own `with` would report instead of the interrupt.
    with contextlib.closing(opened) as blob:
        for start, stop in cached_blocks(*out.shape):
            for i in range(start, stop):
                blob.reopen(int(row_ids[i]))
                if blob.length() != out.itemsize * space.dimensions:
                    raise SqlFunctionError(
                        f"the vector of item {ids[i]} in space '{space.name}' has {blob.length()} bytes, "
                        f"not the {out.itemsize * space.dimensions} of {space.dimensions} float32 numbers"
                    )
                blob.read_into(out[i])
            if sys.byteorder == "big":
                out[start:stop].byteswap(inplace=True)
            finite = np.isfinite(out[start:stop]).all(axis=1)
            if not finite.all():
                raise SqlFunctionError(
                    f"the vector of item {ids[start + int(finite.argmin())]} in space '{space.name}' "
                    "holds a NaN or infinity: write it anew, or delete it from `vectors`"
                )
            poll()


def squared_norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    """The inner product of each row with itself, (n,) float64."""
    squares = np.empty(len(vectors), np.float64)
    for start, stop in cached_blocks(*vectors.shape):
        block = vectors[start:stop].astype(np.float64)
        np.multiply(block, block, out=block)
        block.sum(axis=1, out=squares[start:stop])
    return squares


def cached_blocks(rows: int, dimensions: int) -> list[tuple[int, int]]:
    """(start, stop) of consecutive blocks of rows that stay in the CPU's caches."""
    step = max(1, BLOCK_NUMBERS // max(1, dimensions))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]
