"""How fast are vectors inserted? `python -m benchmarks.inserting --n 50000 --d 768`

Into new files on the same disk, in turns: nearsql's bulk insert, with its change log; the same rows one
a statement; the same table without triggers, which is what SQLite costs; and sqlite-vec's vec0, in a
nearsql file, whose large pages and page cache help it, and in a file as SQLite makes it. Only vectors
are counted: the items that nearsql's refer to are there before. Prints rows a second, and ratios.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import sqlite_vec

from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi

BATCH = 5000  # rows in one transaction, for all alike

NEARSQL = "nearsql: insert_vectors, with its change log"
ROW_BY_ROW = "nearsql: one row a statement"
NO_TRIGGERS = "the same table without triggers"
VEC0 = "sqlite-vec: vec0 in a file as SQLite makes it"
VEC0_HERE = "sqlite-vec: vec0 in a nearsql file"

Rows = list[tuple[int, bytes]]


def _new_file(path: Path, n: int, d: int) -> dbapi.Connection:
    db = connection.create(path)
    with db:
        db.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'c', ?, ?, ?)",
            ((i, f"{i:064x}", f"text number {i}", i) for i in range(1, n + 1)),
        )
        db.execute(
            "insert into spaces (id, name, kind, dimensions, metric)"
            " values (1, 's', 'embedding', ?, 'cosine')",
            (d,),
        )
    return db


def _plain_file(path: Path, n: int, d: int) -> dbapi.Connection:
    """A connection with SQLite's own page size, journal and page cache, and sqlite-vec."""
    db = dbapi.connect(path)
    db.apsw.enable_load_extension(True)
    db.apsw.load_extension(sqlite_vec.loadable_path())
    return db


def _bulk(db: dbapi.Connection, rows: Rows) -> None:
    insert_vectors(db, 1, None, rows)


def _one_a_statement(db: dbapi.Connection, rows: Rows) -> None:
    db.executemany("insert into vectors (space_id, item_id, vector) values (1, ?, ?)", rows)


def _into_vec0(db: dbapi.Connection, rows: Rows) -> None:
    db.executemany("insert into in_vec0 (item_id, vector) values (?, ?)", rows)


@dataclass(frozen=True)
class _Way:
    insert: Callable[[dbapi.Connection, Rows], None]
    prepare: tuple[str, ...] = ()
    new_file: Callable[[Path, int, int], dbapi.Connection] = _new_file


def _seconds(n: int, d: int, way: _Way) -> float:
    """How long n rows take, the commits and their share of the write-ahead log included."""
    rng = np.random.default_rng(0)
    taken = 0.0
    with tempfile.TemporaryDirectory() as folder:
        db = way.new_file(Path(folder) / "inserting.db", n, d)
        for statement in way.prepare:
            db.execute(statement)
        db.commit()
        for start in range(1, n + 1, BATCH):
            vectors = rng.standard_normal((min(BATCH, n + 1 - start), d), np.float32)
            rows = [(start + i, vector.tobytes()) for i, vector in enumerate(vectors)]
            began = time.perf_counter()
            with db:
                way.insert(db, rows)
            taken += time.perf_counter() - began
        began = time.perf_counter()
        db.close()  # which writes the log into the file
        taken += time.perf_counter() - began
    return taken


def measure(n: int, d: int, rounds: int) -> dict[str, list[float]]:
    """Rows a second of each way, for each round; the ways take turns."""
    triggers = ("inserted", "deleted", "updated", "id_is_not_reused", "id_never_changes")
    vec0 = (
        f"create virtual table in_vec0 using vec0(item_id integer primary key, vector float[{d}])",
    )
    ways = {
        NEARSQL: _Way(_bulk),
        NO_TRIGGERS: _Way(_bulk, tuple(f"drop trigger vectors_{name}" for name in triggers)),
        ROW_BY_ROW: _Way(_one_a_statement),
        VEC0: _Way(_into_vec0, vec0, _plain_file),
        VEC0_HERE: _Way(_into_vec0, vec0),
    }
    found: dict[str, list[float]] = {name: [] for name in ways}
    for _ in range(rounds):
        for name, way in ways.items():
            found[name].append(n / _seconds(n, d, way))
    return found


def main() -> None:
    """Measures and prints."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=50_000)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = measure(options.n, options.d, options.rounds)
    print(f"{options.n:,} x {options.d}, {options.rounds} rounds: rows a second, median (all)")
    vec0 = statistics.median(found[VEC0])
    for name, rates in found.items():
        middle = statistics.median(rates)
        every = ", ".join(f"{rate:,.0f}" for rate in rates)
        print(f"{name:46}{middle:>9,.0f}  {middle / vec0:>5.2f} x vec0  ({every})")


if __name__ == "__main__":
    main()
