"""Writing an index into the file in short transactions, and taking it out again.

An index is a row of `vector_indexes` that is not ready, then its chunks, then, in one transaction, it is
ready and the one that it replaces is not. What is not ready serves nobody; what a killed process left of
it, the next command removes.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.console import UserError
from nearsql.pipeline.runs import immediate, mark_interrupted
from nearsql.udfs import dbapi
from nearsql.udfs.search import vec0_index
from nearsql.udfs.search.index_parts import CHUNK_BYTES, FAISS, ITEMS, ROWS, PartsHash
from nearsql.udfs.spaces import Space
from nearsql.udfs.sql_files import read_sql

Part = tuple[int, NDArray[np.uint8]]


@dataclass(frozen=True, slots=True)
class Built:
    """What becomes of an index when it is complete. recall: by k. parameters: with "search", by k."""

    n: int
    bytes: int
    head_sha256: str
    sha256: str
    parameters: dict[str, Any]
    recall: dict[int, float]
    min_recall: float
    build_ms: float


def begin(db: dbapi.Connection, space: Space, run_id: int, engine: str, seed: int) -> int:
    """Inserts the row of an index to be, with its empty table if it is vec0; gives its id.

    There is one vec0 table a space: an older index ends here. Raises UserError while another process
    makes the same index.
    """
    with immediate(db):
        for (other,) in db.execute(
            read_sql(__package__, "index_being_made"), {"space": space.id, "engine": engine}
        ).fetchall():
            raise UserError(
                f"run {other} is making the {engine} index of '{space.name}': let it end first"
            )
        index_id = db.execute(
            "insert into vector_indexes (space_id, run_id, engine, parameters_json, seed, generation,"
            " generation_token, n) values (?, ?, ?, '{}', ?, ?, ?, 0)",
            (space.id, run_id, engine, seed, space.generation, space.generation_token),
        ).lastrowid
        assert index_id is not None
        if engine == "vec0":
            db.execute(
                "update vector_indexes set is_ready = 0 where space_id = ? and engine = 'vec0'",
                (space.id,),
            )
            vec0_index.create(db.apsw, space)
    return index_id


def with_ids(
    parts: Iterable[Part], ids: NDArray[np.int64], row_ids: NDArray[np.int64]
) -> Iterator[Part]:
    """The parts that faiss gives, in order, with those of the ids between them."""
    for part, data in parts:
        yield part, data
        if part == FAISS:
            yield ITEMS, ids.astype("<i8").view(np.uint8)
            yield ROWS, row_ids.astype("<i8").view(np.uint8)


def hash_parts(parts: Iterable[Part]) -> str:
    """The SHA-256 of an index that is not written."""
    digest = PartsHash()
    for part, data in parts:
        digest.add(part, len(data), [data.data])
    return digest.hexdigest()


def write(db: dbapi.Connection, index_id: int, parts: Iterable[Part]) -> tuple[int, str, str]:
    """Writes the parts of an index that was begun, in ascending order; gives (bytes, head_sha256, sha256)."""
    total, head, digest = 0, PartsHash(), PartsHash()
    waiting: list[tuple[int, int, Any]] = []
    n_waiting = 0
    for part, data in parts:
        digest.add(part, len(data), [data.data])
        if part <= ITEMS:
            head.add(part, len(data), [data.data])
        total += len(data)
        for number, start in enumerate(range(0, len(data), CHUNK_BYTES)):
            chunk = data[start : start + CHUNK_BYTES]
            if n_waiting + len(chunk) > CHUNK_BYTES:
                _write(db, index_id, waiting)
                waiting, n_waiting = [], 0
            waiting.append((part, number, chunk.data))
            n_waiting += len(chunk)
    _write(db, index_id, waiting)
    return total, head.hexdigest(), digest.hexdigest()


def _write(db: dbapi.Connection, index_id: int, chunks: list[tuple[int, int, Any]]) -> None:
    with immediate(db):
        refuse_if_gone(db, index_id)
        db.executemany(
            "insert into vector_index_chunks (index_id, part, chunk_number, data)"
            " values (?, ?, ?, ?)",
            [(index_id, *chunk) for chunk in chunks],
        )


def refuse_if_gone(db: dbapi.Connection, index_id: int) -> None:
    """Raises UserError when the row of an index to be is not there any more."""
    if not db.execute("select 1 from vector_indexes where id = ?", (index_id,)).fetchone():
        raise UserError("the space was deleted while its index was made: nothing is left of it")


def make_ready(db: dbapi.Connection, index_id: int, built: Built) -> list[int]:
    """From one moment to the next this index serves, and those that it replaces do not; gives their ids.

    In the caller's transaction; they are to be removed after it.
    """
    older = [
        replaced
        for (replaced,) in db.execute(
            read_sql(__package__, "indexes_replaced"), {"index": index_id}
        ).fetchall()
    ]
    db.executemany(
        "update vector_indexes set is_ready = 0 where id = ?", [(each,) for each in older]
    )
    refuse_if_gone(db, index_id)
    db.execute(
        read_sql(__package__, "make_ready"),
        {
            **asdict(built),
            "parameters": json.dumps(built.parameters),
            "recall": json.dumps(built.recall),
            "index": index_id,
        },
    )
    return older


def remove(db: dbapi.Connection, index_id: int) -> None:
    """Removes an index, which serves nobody from the first moment on."""
    with immediate(db):
        db.execute("update vector_indexes set is_ready = 0 where id = ?", (index_id,))
        vec0 = "select space_id from vector_indexes where id = ? and engine = 'vec0'"
        for (space_id,) in db.execute(vec0, (index_id,)).fetchall():
            if not _other_vec0(db, space_id, index_id):
                vec0_index.drop(db.apsw, space_id)
    chunk: Any = True
    while chunk:
        with immediate(db):
            chunk = db.execute(read_sql(__package__, "delete_some_chunks"), (index_id,)).fetchall()
    with immediate(db):
        db.execute("delete from vector_indexes where id = ?", (index_id,))


def remove_leftovers(db: dbapi.Connection) -> list[str]:
    """Removes what killed processes and deleted spaces left; says in words what there was.

    What is not ready and whose run is not running belongs to nobody. A vec0 table outlives its space,
    since no foreign key removes a table.
    """
    mark_interrupted(db)
    removed = []
    for index_id, space, engine, run_id in db.execute(
        read_sql(__package__, "leftover_indexes")
    ).fetchall():
        remove(db, index_id)
        removed.append(f"the unfinished {engine} index of {space} (run {run_id})")
    for space_id in vec0_index.spaces_with_table(db.apsw):
        with immediate(db):
            # Looked for inside, since another process may just be making it.
            if not _other_vec0(db, space_id, -1):
                vec0_index.drop(db.apsw, space_id)
                table = vec0_index.table_name(space_id)
                removed.append(f"the table {table}, whose space is deleted or has no such index")
    return removed


def _other_vec0(db: dbapi.Connection, space_id: int, index_id: int) -> bool:
    """Whether the space's vec0 table belongs to an index besides this one."""
    return bool(
        db.execute(
            "select 1 from vector_indexes where space_id = ? and engine = 'vec0' and id <> ?",
            (space_id, index_id),
        ).fetchone()
    )
