"""The vectors of each space: whole, finite, and told of by the log that keeps caches and indexes true."""

import numpy as np

from nearsql.pipeline.check.finding import REPAIR, Finding, finding
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# Vectors looked at together.
_BATCH = 4096


def check_spaces(db: dbapi.Connection) -> list[Finding]:
    """Lengths, finite numbers, and the log of changes, over all spaces."""
    return [_lengths(db), _finite(db), _log(db)]


def _lengths(db: dbapi.Connection) -> Finding:
    (vectors,) = db.execute("select count(*) from vectors").fetchone()
    rows = db.execute(read_sql(__package__, "sql/vector_lengths"))
    faults = [
        f"item {item} in {space}: {length} bytes, not {expected}"
        for space, item, length, expected in rows
    ]
    return finding("lengths of vectors", vectors, faults, cure=_EMBED_AGAIN)


def _finite(db: dbapi.Connection) -> Finding:
    faults, checked = [], 0
    for space_id, name, dimensions in db.execute(
        "select id, name, dimensions from spaces order by id"
    ).fetchall():
        cursor = db.execute(
            "select item_id, vector from vectors where space_id = ? and length(vector) = ?",
            (space_id, 4 * dimensions),
        )
        while rows := cursor.fetchmany(_BATCH):
            checked += len(rows)
            vectors = np.frombuffer(b"".join(v for _, v in rows), "<f4").reshape(len(rows), -1)
            for i in np.flatnonzero(~np.isfinite(vectors).all(axis=1)):
                faults.append(f"item {rows[i][0]} in {name} has NaN or infinity")
    return finding("numbers of vectors", checked, faults, cure=_EMBED_AGAIN)


def _log(db: dbapi.Connection) -> Finding:
    (spaces,) = db.execute("select count(*) from spaces").fetchone()
    faults = [text for (text,) in db.execute(read_sql(__package__, "sql/change_log"))]
    # A change of any vector writes both anew, so that nothing stale is believed.
    return finding("log of changes", spaces, faults, cure=REPAIR)


_EMBED_AGAIN = "delete those vectors, and `nearsql embed` makes them again"
