"""Filling the vec0 table of a space, in short transactions, and searching it while it is measured."""

from collections.abc import Callable

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.index import store
from nearsql.pipeline.index.recall import Candidates
from nearsql.pipeline.index.vectors import SpaceVectors
from nearsql.pipeline.runs import immediate
from nearsql.udfs import dbapi
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search import vec0_index
from nearsql.udfs.search.stored_vectors import read_rows
from nearsql.udfs.spaces import Space

Ids = NDArray[np.int64]
Vectors = NDArray[np.float32]

# Rows copied in one transaction: 0.1 to 0.2 s at 768 dimensions.
_COPIED = 2048


def fill(
    db: dbapi.Connection, index_id: int, space: Space, advance: Callable[[int], None]
) -> tuple[int, Ids, str]:
    """Copies the vectors of a space into its table, which is empty; gives (items, zeros, sha256).

    Whatever others write meanwhile is copied as it is found or not: it is in the space's log since the
    generation of the index, hence left out of its answers and searched exactly.
    """
    poll, digest = Poll(db.apsw), vec0_index.TableHash()
    n, last = 0, -(2**63)
    zeros: list[Ids] = []
    while True:
        with immediate(db):
            store.refuse_if_gone(db, index_id)
            rows = db.execute(
                "select item_id, id from vectors where space_id = ? and item_id > ?"
                " order by item_id limit ?",
                (space.id, last, _COPIED),
            ).fetchall()
            if not rows:
                break
            ids, row_ids = np.array(rows, np.int64).T.copy()
            vectors = np.empty((len(ids), space.dimensions), np.float32)
            read_rows(db.apsw, space, row_ids, ids, vectors, poll)
            kept_ids, kept, without = vec0_index.stored(space, ids, vectors)
            vec0_index.insert(db.apsw, space, kept_ids, kept)
        digest.add(kept_ids, kept)
        zeros.append(without)
        n, last = n + len(ids), int(ids[-1])
        advance(len(ids))
    all_zeros = np.concatenate([np.empty(0, np.int64), *zeros])
    return n, all_zeros, digest.hexdigest(all_zeros)


def write_zeros(db: dbapi.Connection, index_id: int, space: Space, zeros: Ids) -> int:
    """Writes the part that names the items without a direction, if any; gives the bytes of the index."""
    data = zeros.astype("<i8").view(np.uint8)
    if len(data):
        store.write(db, index_id, [(vec0_index.ZEROS, data)])
    return vec0_index.table_bytes(db.apsw, space.id) + len(data)


def candidates(db: apsw.Connection, vectors: SpaceVectors, zeros: Ids) -> Candidates:
    """The search of the table, in places of these vectors."""

    def find(queries: Vectors, c: int, effort: int) -> Ids:
        found = vec0_index.candidates(db, vectors.space, queries, c, zeros)
        out = np.full((len(queries), max(map(len, found))), -1, np.int64)
        for i, ids in enumerate(found):
            out[i, : len(ids)] = vectors.places_of(ids)
        return out

    return find


def content_hash(vectors: SpaceVectors) -> str:
    """The SHA-256 of the table that these vectors give."""
    digest, zeros, first = vec0_index.TableHash(), [np.empty(0, np.int64)], 0
    for block in vectors.blocks():
        ids = vectors.ids[first : first + len(block)]
        kept_ids, kept, without = vec0_index.stored(vectors.space, ids, block)
        digest.add(kept_ids, kept)
        zeros.append(without)
        first += len(block)
    return digest.hexdigest(np.concatenate(zeros))
