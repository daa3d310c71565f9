"""The rows of a stored graph: written in blocks, hashed, read back when a stopped run goes on, removed."""

import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.result_tables import Row
from nearsql.pipeline.row_hash import RowHash
from nearsql.pipeline.run_spaces import refuse_if_changed
from nearsql.pipeline.runs import RunInput, immediate
from nearsql.udfs import dbapi
from nearsql.udfs.search.neighbors import QUERY_BLOCK
from nearsql.udfs.search.stored_vectors import rows_of_items, rows_of_space
from nearsql.udfs.spaces import Space
from nearsql.udfs.sql_files import read_sql

_ROWS_A_STATEMENT = 500
# Blocks are written together until they have so many rows, or so much time was spent on them: each write
# touches most pages of the index over neighbours, and what is not written is lost with the process.
_ROWS_A_WRITE = 500_000
_SECONDS_A_WRITE = 20.0
# Rows removed in one transaction.
_ROWS_REMOVED = 20_000


@dataclass(frozen=True, slots=True)
class Block:
    """Some items and their neighbours: items (m,) int64, neighbors (m, k') int64, distances (m, k') float64."""

    items: NDArray[np.int64]
    neighbors: NDArray[np.int64]
    distances: NDArray[np.float64]


def worth_writing(
    blocks: Iterator[tuple[Any, Any, Any]], advance: Callable[[int], None]
) -> Iterator[Block]:
    """Blocks that are worth a transaction each. advance is told of the items as they are computed."""
    start = time.monotonic()
    waiting: list[tuple[Any, Any, Any]] = []
    for block in blocks:
        waiting.append(block)
        advance(len(block[0]))
        n_rows = sum(neighbors.size for _, neighbors, _ in waiting)
        if n_rows >= _ROWS_A_WRITE or time.monotonic() - start >= _SECONDS_A_WRITE:
            yield _joined(waiting)
            start, waiting = time.monotonic(), []
    if waiting:
        yield _joined(waiting)


def _joined(blocks: list[tuple[Any, Any, Any]]) -> Block:
    return Block(*(np.concatenate(arrays) for arrays in zip(*blocks, strict=True)))


def add_to_hash(digest: RowHash, block: Block) -> None:
    """Adds a row for each item: its id, its neighbours' as int64 and the distances as float64, both
    little-endian and nearest first."""
    for item, ids, distances in zip(
        block.items.tolist(),
        block.neighbors.astype("<i8"),
        block.distances.astype("<f8"),
        strict=True,
    ):
        digest.add((item, ids.tobytes(), distances.tobytes()))


def already_written(
    db: dbapi.Connection,
    run_id: int,
    space: Space,
    n: int,
    width: int,
    subset: NDArray[np.int64] | None,
) -> tuple[int, RowHash]:
    """How many items a stopped run has written, in whole blocks, and the hash of their rows.

    Should some be missing, or too many (somebody changed them), all are removed: it starts anew.
    """
    (n_rows,) = db.execute("select count(*) from neighbors where run_id = ?", (run_id,)).fetchone()
    done, odd = divmod(n_rows, width)
    is_whole = not odd and (done == n or done % QUERY_BLOCK == 0)
    if subset is None:
        ids, _ = rows_of_space(db.apsw, space, limit=done if is_whole else 0)
    else:
        ids = rows_of_items(db.apsw, space, subset)[0][: done if is_whole else 0]
    digest = RowHash()
    for start in range(0, len(ids), QUERY_BLOCK):
        block = _stored_block(db, run_id, ids[start : start + QUERY_BLOCK], width)
        if block is None:
            is_whole = False
            break
        add_to_hash(digest, block)
    if not is_whole or len(ids) < done:
        remove_rows(db, run_id)
        return 0, RowHash()
    return done, digest


def _stored_block(
    db: dbapi.Connection, run_id: int, items: NDArray[np.int64], width: int
) -> Block | None:
    """The stored rows of these items, which follow one another; None when they are not `width` each."""
    rows = db.execute(
        _sql("of_items"), {"run": run_id, "first": int(items[0]), "last": int(items[-1])}
    ).fetchall()
    if [row[:2] for row in rows] != [
        (item, rank) for item in items.tolist() for rank in range(1, width + 1)
    ]:
        return None
    shape = len(items), width
    ids = np.array([row[2] for row in rows], np.int64).reshape(shape)
    return Block(items, ids, np.array([row[3] for row in rows], np.float64).reshape(shape))


def write_block(db: dbapi.Connection, run_id: int, source: RunInput, block: Block) -> None:
    """Writes a block in one transaction, in which the space is still what it was when the run began."""
    width = block.neighbors.shape[1]
    # By neighbour, so that the index over neighbours is gone through once, and not at random.
    order = np.argsort(block.neighbors, axis=None, kind="stable")
    columns = (
        np.repeat(block.items, width)[order],
        order % width + 1,  # the rank
        block.neighbors.ravel()[order],
        block.distances.ravel()[order],
    )
    with immediate(db):
        refuse_if_changed(db, source)
        for start in range(0, len(order), _ROWS_A_STATEMENT):
            some = slice(start, start + _ROWS_A_STATEMENT)
            batch = list(zip(*(column[some].tolist() for column in columns), strict=True))
            values = ", ".join(["(?, ?, ?, ?, ?)"] * len(batch))
            db.execute(
                "insert into neighbors (run_id, item_id, rank, neighbor_id, distance) values "
                + values,
                [value for row in batch for value in (run_id, *row)],
            )


def remove_rows(db: dbapi.Connection, run_id: int) -> None:
    """Removes a run's rows, some in each transaction, so that others may write in between."""
    some = {"run": run_id, "n_rows": _ROWS_REMOVED}
    removed = 1
    while removed:
        with immediate(db):
            removed = db.execute(_sql("remove_some"), some).rowcount


def as_rows(block: Block) -> Iterator[Row]:
    """The rows of a block as they are stored, by item and rank."""
    for item, ids, distances in zip(
        block.items.tolist(), block.neighbors.tolist(), block.distances.tolist(), strict=True
    ):
        for rank, (neighbor, distance) in enumerate(zip(ids, distances, strict=True), 1):
            yield item, rank, neighbor, distance


def _sql(name: str) -> str:
    return read_sql(__package__, f"neighbors_{name}")
