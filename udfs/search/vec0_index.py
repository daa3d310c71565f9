"""The vec0 engine: a space copied into a virtual table of sqlite-vec, which is searched on disk.

It needs no memory for the matrix, and other programs that load sqlite-vec can read it:

    select rowid, distance from _nearsql_vec0_3 where vector match ? and k = 10   -- rowid: the item

The table `_nearsql_vec0_<space id>` is derived from `vectors` and is as old as its row in
`vector_indexes`: whoever reads it himself does not see what changed since.
"""

import hashlib
import itertools
import re
from collections.abc import Iterator
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search import index_parts
from nearsql.udfs.search.stored_vectors import squared_norms
from nearsql.udfs.spaces import Space

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

# The most neighbours that vec0 gives, and the most dimensions that it takes.
MOST_CANDIDATES = 4096
MOST_DIMENSIONS = 8192

# The part that names the items of a vector of zeros, of which cosine has none in the table (int64).
ZEROS = index_parts.LISTS

_PREFIX = "_nearsql_vec0_"
# Its distances are float32: the square of a difference of two vectors no longer than this is finite.
_LARGEST_SQUARE = 1e37


def table_name(space_id: int) -> str:
    """The virtual table of a space; its shadow tables begin with the same name."""
    return f"{_PREFIX}{space_id}"


def refuse_unsuitable(space: Space) -> None:
    """Raises SqlFunctionError for a space that vec0 cannot hold."""
    if space.metric == "ip":
        raise SqlFunctionError(
            f"space '{space.name}' is measured by the inner product, which vec0 does not have: "
            "use the engine hnsw or ivf"
        )
    if space.dimensions > MOST_DIMENSIONS:
        raise SqlFunctionError(
            f"space '{space.name}' has {space.dimensions:,} dimensions, and vec0 takes "
            f"{MOST_DIMENSIONS:,}: use the engine hnsw or ivf"
        )


def create(db: apsw.Connection, space: Space) -> None:
    """Makes the empty table of a space, in the caller's transaction. One that is there goes first."""
    refuse_unsuitable(space)
    drop(db, space.id)
    db.execute(_definition(space))


def drop(db: apsw.Connection, space_id: int) -> None:
    """Removes the table of a space, if there is one, in the caller's transaction."""
    db.execute(f'drop table if exists "{table_name(space_id)}"')


def insert(db: apsw.Connection, space: Space, ids: Ids, vectors: Vectors) -> None:
    """Puts rows into the table, in the caller's transaction: what `stored` gives for them."""
    sql = f'insert into "{table_name(space.id)}" (rowid, vector) values (?, ?)'
    db.executemany(
        sql, [(i, v.tobytes()) for i, v in zip(ids.tolist(), vectors.astype("<f4"), strict=True)]
    )


def stored(space: Space, ids: Ids, vectors: Vectors) -> tuple[Ids, Vectors, Ids]:
    """(ids, vectors, zeros): what the table holds of these rows, and the items that it cannot hold.

    For cosine, rows of length 1: sqlite-vec computes in float32, and a vector of zeros has no direction
    (it would give NULL, and come first). Raises SqlFunctionError for numbers too large for it.
    """
    squares = squared_norms(vectors)
    if space.metric == "cosine":
        is_zero = squares == 0
        kept = ~is_zero
        return ids[kept], _unit(vectors[kept], squares[kept]), ids[is_zero]
    if len(squares) and squares.max() > _LARGEST_SQUARE:
        raise SqlFunctionError(
            f"the vector of item {ids[int(squares.argmax())]} in space '{space.name}' is too long for "
            "the float32 arithmetic of vec0: use the engine hnsw or ivf"
        )
    return ids, vectors, ids[:0]


def candidates(
    db: apsw.Connection, space: Space, queries: Vectors, c: int, zeros: Ids
) -> tuple[Ids, ...]:
    """For each query the item ids of its c nearest by vec0, and more where equal distances need them.

    queries: (m, d) finite. c: at most MOST_CANDIDATES. zeros: what was stored as part ZEROS, ascending.
    Raises SqlFunctionError when the table is not there, or is not one that `create` made.
    """
    _refuse_other_table(db, space)
    squares = squared_norms(queries)
    sql = f'select rowid from "{table_name(space.id)}" where vector match ? and k = ?'
    found: list[Ids] = []
    for query, square in zip(queries, squares, strict=True):
        if space.metric == "cosine":
            if square == 0:  # as far from everything: the first by id
                found.append(_first_items(db, space, c))
                continue
            query = _unit(query[None, :], np.array([square]))[0]
        elif square > _LARGEST_SQUARE:
            raise SqlFunctionError(
                "the query is too long for the float32 arithmetic of vec0: ask with exact = 1"
            )
        rows = db.execute(sql, (query.astype("<f4").tobytes(), c)).fetchall()
        near = np.array([row[0] for row in rows], np.int64)
        # A vector of zeros is at cosine distance 1 from everything.
        found.append(np.concatenate([near, zeros[:c]]))
    return tuple(found)


def read_table(db: apsw.Connection, space: Space, block: int) -> Iterator[tuple[Ids, Vectors]]:
    """The rows of the table, so many at a time, in the order in which they were put in.

    Raises SqlFunctionError when the table is not there, or is not one that `create` made.
    """
    _refuse_other_table(db, space)
    rows = db.execute(f'select rowid, vector from "{table_name(space.id)}"')
    while some := list(itertools.islice(rows, block)):
        data = b"".join(cast(Any, vector) for _, vector in some)
        vectors = np.frombuffer(data, "<f4").astype(np.float32).reshape(-1, space.dimensions)
        yield np.array([i for i, _ in some], np.int64), vectors


def items(db: apsw.Connection, space: Space) -> Ids:
    """The items that are in the table, ascending; none when it is not there."""
    if not is_there(db, space):
        return np.empty(0, np.int64)
    rows = db.execute(f'select rowid from "{table_name(space.id)}_rowids" order by rowid')
    return np.array([row[0] for row in rows], np.int64)


class TableHash:
    """The SHA-256 of what a table holds, however it was put in: its ids, its vectors, and the zeros."""

    def __init__(self) -> None:
        self._ids, self._vectors = hashlib.sha256(), hashlib.sha256()

    def add(self, ids: Ids, vectors: Vectors) -> None:
        """The next rows."""
        self._ids.update(ids.astype("<i8").tobytes())
        self._vectors.update(vectors.astype("<f4").tobytes())

    def hexdigest(self, zeros: Ids) -> str:
        """Of the rows so far, and of the items that the table cannot hold."""
        whole = self._ids.digest() + self._vectors.digest() + zeros.astype("<i8").tobytes()
        return hashlib.sha256(whole).hexdigest()


def table_bytes(db: apsw.Connection, space_id: int) -> int:
    """Bytes of the table's contents in the file."""
    name = table_name(space_id)
    row = db.execute(
        f'select (select coalesce(sum(length(vectors)), 0) from "{name}_vector_chunks00")'
        f' + (select coalesce(sum(length(validity) + length(rowids)), 0) from "{name}_chunks")'
    ).fetchone()
    return int(cast(Any, row)[0])


def spaces_with_table(db: apsw.Connection) -> list[int]:
    """The space ids of the tables that are there, whether or not the spaces are."""
    names = db.execute(
        "select cast(name as blob) from sqlite_schema where type = 'table' and name like ? escape '\\'",
        (_PREFIX.replace("_", r"\_") + "%",),
    )
    # As BLOBs: in a damaged file they may be no texts.
    pattern = re.compile(_PREFIX.encode() + rb"(\d+)")
    matches = (pattern.fullmatch(name) for (name,) in cast(Any, names))
    return sorted(int(match[1]) for match in matches if match)


def is_there(db: apsw.Connection, space: Space) -> bool:
    """Whether the space's table is the one that `create` makes."""
    row = db.execute(
        "select cast(sql as blob) from sqlite_schema where type = 'table' and name = ?",
        (table_name(space.id),),
    ).fetchone()
    # SQLite keeps the statement's own words, but for the first three, which it writes large.
    return row is not None and cast(Any, row[0]).lower() == _definition(space).encode()


def _refuse_other_table(db: apsw.Connection, space: Space) -> None:
    if not is_there(db, space):
        raise SqlFunctionError(
            f"the vec0 index of space '{space.name}' has lost its table {table_name(space.id)}: build it "
            "anew with `nearsql index --engine vec0`, or ask with exact = 1"
        )


def _definition(space: Space) -> str:
    metric = {"cosine": "cosine", "l2": "l2"}[space.metric]
    return (
        f'create virtual table "{table_name(space.id)}" using vec0('
        f"vector float[{space.dimensions}] distance_metric={metric})"
    )


def _first_items(db: apsw.Connection, space: Space, c: int) -> Ids:
    rows = db.execute(
        "select item_id from vectors where space_id = ? order by item_id limit ?", (space.id, c)
    )
    return np.array([row[0] for row in rows], np.int64)


def _unit(vectors: Vectors, squares: NDArray[np.float64]) -> Vectors:
    return cast(Vectors, (vectors / np.sqrt(squares)[:, None]).astype(np.float32))
