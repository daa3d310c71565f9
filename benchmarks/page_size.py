"""Which page size suits a file of vectors and ordinary tables? `python -m benchmarks.page_size`

For each page size, in one run and on the same disk: bulk inserts of vectors with their triggers, one
sequential read of all vectors, small commits, point look-ups, a join over memberships, and the file's
size. Prints seconds, and ratios to SQLite's default of 4 KiB.
"""

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi

Insert = Callable[[dbapi.Connection, int, list[bytes]], None]
BATCH = 1000  # rows in one transaction
SIZES = (4096, 16384, 32768, 65536)


def build(path: Path, page_size: int) -> dbapi.Connection:
    """An empty nearsql database with that page size."""
    connection.PAGE_SIZE = page_size
    db = connection.create(path)
    assert db.execute("pragma page_size").fetchone() == (page_size,)
    return db


def insert_items(db: dbapi.Connection, n: int) -> None:
    rows = [(i, f"{i:064x}", f"text number {i}", i) for i in range(1, n + 1)]
    with db:
        db.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'c', ?, ?, ?)",
            rows,
        )


def fill_space(db: dbapi.Connection, blobs: list[bytes], insert: Insert) -> None:
    db.execute(
        "insert into spaces (id, name, kind, dimensions, metric) values (1, 's', 'embedding', ?, 'l2')",
        (len(blobs[0]) // 4,),
    )
    db.commit()
    for start in range(0, len(blobs), BATCH):
        with db:
            insert(db, start + 1, blobs[start : start + BATCH])


def many_a_statement(db: dbapi.Connection, first: int, blobs: list[bytes]) -> None:
    insert_vectors(db, 1, None, list(enumerate(blobs, first)))


def one_a_statement(db: dbapi.Connection, first: int, blobs: list[bytes]) -> None:
    db.executemany(
        "insert into vectors (space_id, item_id, vector) values (1, ?, ?)",
        list(enumerate(blobs, first)),
    )


def delete_vectors(db: dbapi.Connection) -> None:
    with db:
        db.execute("delete from spaces")


def small_commits(db: dbapi.Connection, n: int) -> None:
    for i in range(1, n + 1):
        with db:
            db.execute("insert into item_labels values (?, 'a', 'b', 'c')", (i,))


def memberships(db: dbapi.Connection, n: int) -> None:
    with db:
        db.execute("insert into runs (id, kind) values (1, 'cluster')")
        db.execute("insert into clusters (id, run_id, label, size) values (1, 1, 0, 1)")
        db.execute(
            "insert into memberships (run_id, item_id, cluster_id, probability)"
            " select 1, id, 1, 0.5 from items"
        )
    db.execute(
        "select avg(m.probability), count(distinct i.sha256) from memberships m"
        " join items i on i.id = m.item_id"
    ).fetchone()


def look_ups(db: dbapi.Connection, ids: list[int]) -> None:
    for i in ids:
        db.execute("select vector from vectors where space_id = 1 and item_id = ?", (i,)).fetchone()


def read_all(db: dbapi.Connection, n: int, dimensions: int) -> None:
    """Every vector once, by incremental blob reads, as the resident matrix is loaded."""
    matrix = np.empty((n, dimensions), "<f4")
    blob = db.apsw.blob_open("main", "vectors", "vector", 1, False)
    for i in range(n):
        blob.reopen(i + 1)
        blob.read_into(matrix[i])
    blob.close()


def measure(n: int, dimensions: int, rounds: int) -> dict[int, dict[str, float]]:
    rng = np.random.default_rng(0)
    blobs = [v.tobytes() for v in rng.standard_normal((n, dimensions), "<f4")]
    ids = [int(i) for i in rng.integers(1, n + 1, 5000)]
    found: dict[int, dict[str, list[float]]] = {size: {} for size in SIZES}
    for _ in range(rounds):
        for size in SIZES:  # in turn, so that a drifting machine hits all alike
            with tempfile.TemporaryDirectory() as folder:
                path = Path(folder) / "p.db"
                db = build(path, size)
                steps: dict[str, Callable[[], None]] = {
                    "insert items": lambda db=db: insert_items(db, n),
                    "insert row by row": lambda db=db: fill_space(db, blobs, one_a_statement),
                    "delete a space": lambda db=db: delete_vectors(db),
                    "insert vectors": lambda db=db: fill_space(db, blobs, many_a_statement),
                    "read all vectors": lambda db=db: read_all(db, n, dimensions),
                    "5,000 look-ups": lambda db=db: look_ups(db, ids),
                    "500 small commits": lambda db=db: small_commits(db, 500),
                    "memberships and join": lambda db=db: memberships(db, n),
                }
                for name, step in steps.items():
                    start = time.perf_counter()
                    step()
                    found[size].setdefault(name, []).append(time.perf_counter() - start)
                db.execute("pragma wal_checkpoint(truncate)")
                db.close()
                found[size].setdefault("file, MB", []).append(path.stat().st_size / 1e6)
    return {
        size: {name: statistics.median(values) for name, values in by_name.items()}
        for size, by_name in found.items()
    }


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--n", type=int, default=20_000)
    parser.add_argument("--d", type=int, default=768)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    found = measure(options.n, options.d, options.rounds)
    print(f"{options.n:,} x {options.d}, medians of {options.rounds}; in brackets: ratio to 4 KiB")
    print(" " * 22 + "".join(f"{size // 1024:>12} KiB" for size in SIZES))
    for name, base in found[SIZES[0]].items():
        cells = "".join(
            f"{found[size][name]:>9.3f} ({found[size][name] / base:.2f})" for size in SIZES
        )
        print(f"{name:22}{cells}")


if __name__ == "__main__":
    main()
