"""Exact search of a space in what memory there is for it, with the same results to the last bit.

A space is searched as one matrix when that fits. When it does not, the first part of its rows stays in
memory and the rest is read from the file, block by block, at every search: slower, as every search then
waits for the file, but it works with any limit. A few items are read by themselves.

The distance of a query to a row is computed from these two alone, in float64, so it does not matter
which rows were in one block; and the nearest of all are among the nearest of each block.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search import memory, neighbors, stored_vectors
from nearsql.udfs.search.matrix import load_matrix, matrix_bytes, resident_matrix
from nearsql.udfs.search.memory import Older, Reserve, TooLarge, place_of
from nearsql.udfs.search.neighbors import QUERY_BLOCK
from nearsql.udfs.search.stored_vectors import (
    Matrix,
    new_matrix,
    read_matrix,
    refuse_changed,
    rows_of_items,
    rows_of_space,
    vectors_of_items,
)
from nearsql.udfs.spaces import Space

Ids = NDArray[np.int64]
Distances = NDArray[np.float64]

# A subset this much smaller than the space is read by itself rather than the whole space first.
_FEW = 100
# Bytes of a block that is read and searched, at most: larger ones cost new memory from the operating
# system each time. For a graph that does not matter, and fewer blocks leave less to merge.
_BLOCK_BYTES = 1 << 25
_GRAPH_BLOCK_BYTES = 1 << 28
_LEAST_ROWS = 16


def exact_nearest(
    db: apsw.Connection,
    space: Space,
    queries: NDArray[np.float32],
    k: int,
    *,
    subset: Ids | None = None,
    exclude: Ids | Sequence[int | None] | None = None,
    poll: Callable[[], None] | None = None,
) -> tuple[Ids, Distances]:
    """The k nearest items of each query, as (ids, distances), in the caller's snapshot.

    Arguments and results are those of `neighbors.nearest` on the matrix of the space. Raises
    SqlFunctionError for a stored NaN or infinity, and TooLarge where not even a few rows fit in the
    memory allowed.
    """
    poll = poll or Poll(db)
    matrix = _in_memory(db, space, subset)
    if matrix is not None:
        return neighbors.nearest(matrix, queries, k, subset=subset, exclude=exclude, poll=poll)
    with stored_vectors.snapshot(db, space) as current:
        shares = _shares(current)
        part = None if subset is not None else _part(db, current, shares.part, poll)
        with memory.residents.lent(shares.bytes, poll, _name(space)):
            pieces = _pieces(db, current, subset, shares, part)
            return _merged(pieces, np.asarray(queries, np.float32), k, exclude, poll)


def exact_graph_blocks(
    db: apsw.Connection,
    space: Space,
    k: int,
    *,
    subset: Ids | None = None,
    first: int = 0,
    poll: Callable[[], None] | None = None,
) -> Iterator[tuple[Ids, Ids, Distances]]:
    """The k nearest other items of every item, in blocks: (items (m,), neighbours (m, k'), distances).

    Items are in the order of their ids, about a thousand in a block at most. subset: among these item
    ids only. first: the place of the item to begin at, for who has those before it. k' is
    min(k, items - 1).

    Between blocks no snapshot is held and no transaction is open; raises SqlFunctionError when the space
    is changed meanwhile and is not in memory, and otherwise as `exact_nearest`.
    """
    poll = poll or Poll(db)
    matrix = _in_memory(db, space, subset)
    if matrix is not None:
        rows = None if subset is None else matrix.positions(subset)
        ids = matrix.ids if rows is None else matrix.ids[rows]
        for start, places, distances in neighbors.graph_blocks(
            matrix, k, rows=rows, first=first, poll=poll
        ):
            yield ids[start : start + len(places)], ids[places], distances
    else:
        yield from _streamed_graph(db, space, k, subset, first, poll)


def _in_memory(db: apsw.Connection, space: Space, subset: Ids | None) -> Matrix | None:
    """The matrix to search: of the whole space or, where that is much less to read, of the subset.

    None when it does not fit in the memory allowed.
    """
    matrix = resident_matrix(db, space)
    if matrix is not None:
        return matrix
    # A generation counts changes, so a space has no more vectors than that.
    if subset is not None and len(subset) * _FEW <= space.generation:
        if matrix_bytes(len(subset), space.dimensions) <= memory.memory_limit() // 2:
            return vectors_of_items(db, space, subset)
        return None
    try:
        return load_matrix(db, space)
    except TooLarge:
        return None


class _Shares(NamedTuple):
    """How the memory allowed is used for a space that is larger: half of it stays for the first rows, an
    eighth is what one search works in, and the rest is for other searches and for indexes."""

    part: int  # rows that stay in memory
    block: int  # rows read at a time
    queries: int  # queries of a graph answered together
    bytes: int  # of a block and of those queries


def _shares(space: Space, k: int = 0) -> _Shares:
    """The shares for a search, or for a graph of the k nearest."""
    limit = memory.memory_limit()
    row = matrix_bytes(1, space.dimensions) + 8  # with its `vectors.id`
    # A block is gathered or scaled by the search, which takes as much again.
    block_bytes = min(limit // 16, _GRAPH_BLOCK_BYTES if k else _BLOCK_BYTES)
    block = max(_LEAST_ROWS, block_bytes // (2 * row))
    # A query with its neighbours so far, those in a block, and all of them once more to be sorted.
    query = row + 64 * k
    queries = max(1, limit // 16 // query // QUERY_BLOCK) * QUERY_BLOCK if k else 0
    part = max(_LEAST_ROWS, limit // 2 // row)
    return _Shares(part, block, queries, block * 2 * row + queries * query)


def _name(space: Space) -> str:
    return f"searching space '{space.name}'"


def _part(db: apsw.Connection, space: Space, rows: int, poll: Callable[[], None]) -> Matrix:
    """The first rows of the space, which stay in memory. The space is as in the caller's snapshot."""

    def load(find_older: Older, reserve: Reserve) -> tuple[Any, Matrix]:
        older: Matrix | None = find_older()
        if older is not None and len(older.ids) == rows and _begins_with(db, space, older):
            part = new_matrix(older.ids, older.vectors, older.squared_norms, space)
        else:
            del older  # so that its memory is free for the new one
            reserve(rows * (matrix_bytes(1, space.dimensions) + 8))
            part = read_matrix(db, space, *rows_of_space(db, space, limit=rows))
        return (space, rows), part

    key = place_of(db), "part", space.id
    return cast(Matrix, memory.residents.get(key, (space, rows), load, poll, _name(space)))


def _begins_with(db: apsw.Connection, space: Space, older: Matrix) -> bool:
    """Whether the space's first rows are still those that were read at an older generation."""
    changes = stored_vectors.changes_since(
        db, space, older.space.generation, older.space.generation_token
    )
    return changes is not None and all(item > older.ids[-1] for item, _ in changes)


def _pieces(
    db: apsw.Connection, space: Space, subset: Ids | None, shares: _Shares, part: Matrix | None
) -> Iterator[Matrix]:
    """All rows of the space, or of the subset, once each."""
    if subset is not None:
        wanted = np.unique(subset)
        for start in range(0, max(1, len(wanted)), shares.block):
            yield vectors_of_items(db, space, wanted[start : start + shares.block])
        return
    assert part is not None
    yield part
    after = int(part.ids[-1]) if len(part.ids) else None
    yield from stored_vectors.blocks(db, space, shares.block, after=after)


def _merged(
    pieces: Iterator[Matrix],
    queries: NDArray[np.float32],
    k: int,
    exclude: Ids | Sequence[int | None] | None,
    poll: Callable[[], None],
) -> tuple[Ids, Distances]:
    """The k nearest of each query among all pieces, as `neighbors.nearest` gives them of one matrix."""
    m = len(queries)
    ids, distances = np.empty((m, 0), np.int64), np.empty((m, 0), np.float64)
    n, n_excluded = 0, 0
    excluded = Counter(() if exclude is None else (i for i in exclude if i is not None))
    for piece in pieces:
        poll()
        found = neighbors.nearest(piece, queries, k, exclude=exclude, poll=poll)
        n += len(piece.ids)
        there = piece.positions(np.fromiter(excluded, np.int64))
        n_excluded += sum(excluded[i] for i in piece.ids[there].tolist())
        ids = np.concatenate([ids, found[0]], axis=1)
        distances = np.concatenate([distances, found[1]], axis=1)
        order = np.lexsort((ids, distances), axis=1)[:, :k]
        ids = np.take_along_axis(ids, order, 1)
        distances = np.take_along_axis(distances, order, 1)
    width = min(k, n - (0 < m == n_excluded))
    return ids[:, :width], distances[:, :width]


def _streamed_graph(
    db: apsw.Connection,
    space: Space,
    k: int,
    subset: Ids | None,
    first: int,
    poll: Callable[[], None],
) -> Iterator[tuple[Ids, Ids, Distances]]:
    """The graph, for as many items at a time as there is memory, so that the file is read seldom."""
    shares = _shares(space, k)
    done = first
    while True:
        with stored_vectors.snapshot(db, space) as current:
            refuse_changed(space, current)
            if subset is None:
                own = rows_of_space(db, space, first=done, limit=shares.queries)
                part = _part(db, space, shares.part, poll)
            else:
                ids, row_ids = rows_of_items(db, space, subset)
                own = ids[done:][: shares.queries], row_ids[done:][: shares.queries]
                part = None
            if not len(own[0]):
                return
            with memory.residents.lent(shares.bytes, poll, _name(space)):
                items, neighbor_ids, distances = (
                    own[0],
                    *_merged(
                        _pieces(db, space, subset, shares, part),
                        read_matrix(db, space, *own).vectors,
                        k,
                        own[0],
                        poll,
                    ),
                )
        del part
        for start in range(0, len(items), QUERY_BLOCK):
            some = slice(start, start + QUERY_BLOCK)
            yield items[some], neighbor_ids[some], distances[some]
        done += len(items)
