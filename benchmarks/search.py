"""How near is exact search in SQL to the machine's limits? `python -m benchmarks.search`

One run on one random space of unit vectors (cosine), in three groups:

- one query, against reading the matrix from memory once, and against bare faiss.knn on the same matrix;
- many queries, against the matrix product alone (GEMM), which no exact search can beat;
- the first query, which loads the matrix from the file, against reading a flat file of the same size.

Times are the best of several rounds that take turns; with --cpu, of the process's own processor time,
for one thread on a machine that others use too. sqlite-vec stands beside for comparison.
"""

import argparse
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import faiss
import numpy as np
import threadpoolctl
from tabulate import tabulate

from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.search.neighbors import QUERY_BLOCK
from nearsql.udfs.spaces import find_space

K = 10
GRAPH_K = 15
BATCH = 100
QUICK_BLOCKS = 4
ROW_BLOCK = 4096

Call = Callable[[], object]

clock = time.perf_counter


def fill(path: Path, n: int, d: int) -> None:
    """A database with one space `s` of n unit vectors, items 1 to n."""
    vectors = np.random.default_rng(0).standard_normal((n, d), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    db = connection.create(path)
    with db:
        db.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'c', ?, 'x', ?)",
            ((i, f"{i:064x}", i) for i in range(1, n + 1)),
        )
        db.execute(
            "insert into spaces (id, name, kind, dimensions, metric)"
            " values (1, 's', 'embedding', ?, 'cosine')",
            (d,),
        )
    for start in range(0, n, 10_000):
        rows = enumerate((v.tobytes() for v in vectors[start : start + 10_000]), start + 1)
        with db:
            insert_vectors(db, 1, None, list(rows))
    db.execute("pragma wal_checkpoint(truncate)")
    db.close()


def seconds(call: Call) -> float:
    """How long one call takes."""
    started = clock()
    call()
    return clock() - started


def best(calls: dict[str, Call], rounds: int) -> dict[str, float]:
    """The least seconds of each call, the calls taking turns so that a busy moment hits all alike."""
    for call in calls.values():
        call()
    times = dict.fromkeys(calls, float("inf"))
    for _ in range(rounds):
        for name, call in calls.items():
            times[name] = min(times[name], seconds(call))
    return times


def report(title: str, peer: str, times: dict[str, float], what: str) -> None:
    """Prints the times, and each as a multiple of the peer's."""
    rows = [(name, t * 1000, t / times[peer], times[peer] / t) for name, t in times.items()]
    headers = [title, "ms", f"x {what}", f"{what} / it"]
    print(tabulate(rows, headers, floatfmt=("", ".2f", ".2f", ".2f")), end="\n\n")


def rows_of(db: dbapi.Connection, sql: str, *parameters: object) -> Call:
    """A call that runs the statement and fetches its rows."""
    return lambda: db.execute(sql, parameters).fetchall()


def first_query(db: dbapi.Connection, folder: Path, n: int, d: int) -> None:
    """Loading: measured before anything else has loaded the matrix."""
    flat = folder / "flat"
    flat.write_bytes(bytes(4 * n * d))
    target = np.empty((n, d), np.float32)
    target.fill(0)  # its pages are there already

    def read_flat() -> None:
        with flat.open("rb", buffering=0) as file:
            view = memoryview(target).cast("B")
            at = 0
            while at < len(view):
                at += file.readinto(view[at:]) or 0

    read_flat()
    times = {"read a flat file": seconds(read_flat)}
    times["knn, first query"] = seconds(rows_of(db, "select * from knn('s', 1, 10)"))
    # Twice: a virtual machine may be given its memory only when it is first written to, and the first
    # patch would measure that.
    for _ in range(2):
        db.execute("update vectors set vector = vector where item_id <= 100")
        times["knn after 100 changes"] = seconds(rows_of(db, "select * from knn('s', 1, 10)"))
    db.rollback()
    report("loading", "read a flat file", times, "flat")


def one_query(db: dbapi.Connection, vectors: np.ndarray, rounds: int) -> None:
    """One query against memory and against bare faiss."""
    query = vectors[7:8].copy()
    blob = query.tobytes()
    calls: dict[str, Call] = {
        "read the matrix once (gemv)": lambda: vectors @ query[0],
        "bare faiss.knn": lambda: faiss.knn(query, vectors, K, faiss.METRIC_INNER_PRODUCT),
        "knn of a BLOB": rows_of(db, "select * from knn('s', ?, ?)", blob, K),
        "knn of an item": rows_of(db, "select * from knn('s', 8, ?)", K),
        "knn within half of the items": rows_of(
            db, "select * from knn('s', 8, ?, 'select id from items where id % 2')", K
        ),
    }
    times = best(calls, rounds)
    vec0 = "select rowid, distance from peer where vector match ? and k = ?"
    scalar = "select item_id, vec_distance_cosine(vector, ?) d from vectors order by d limit ?"
    times |= best(
        {
            "sqlite-vec: vec0": rows_of(db, vec0, blob, K),
            "sqlite-vec: vec_distance_cosine": rows_of(db, scalar, blob, K),
        },
        2,
    )
    report("one query", "bare faiss.knn", times, "faiss")
    report("one query", "read the matrix once (gemv)", times, "floor")


def many_queries(db: dbapi.Connection, vectors: np.ndarray, rounds: int) -> None:
    """A batch against the matrix product alone."""

    def gemm() -> None:
        for start in range(0, len(vectors), ROW_BLOCK):
            vectors[:BATCH] @ vectors[start : start + ROW_BLOCK].T

    queries = f"select id from items limit {BATCH}"
    one_by_one = f"select count(*) from ({queries}) i, knn('s', i.id, {K}) k"
    times = best(
        {
            f"matrix product, {BATCH} rows": gemm,
            "bare faiss.knn as it comes": lambda: faiss.knn(
                vectors[:BATCH], vectors, K, faiss.METRIC_INNER_PRODUCT
            ),
            "knn_batch": rows_of(db, "select * from knn_batch('s', ?, ?)", queries, K),
            "knn, a lateral join": rows_of(db, one_by_one),
        },
        rounds,
    )
    report(f"{BATCH} queries", f"matrix product, {BATCH} rows", times, "GEMM")


def graph(db: dbapi.Connection, vectors: np.ndarray, quick: bool) -> None:
    """All against all, or its first blocks: matrix products are measured before and after."""
    blocks = -(-len(vectors) // QUERY_BLOCK)
    if quick:
        blocks = min(QUICK_BLOCKS, blocks)
    n = min(len(vectors), blocks * QUERY_BLOCK)
    out = np.empty((QUERY_BLOCK, ROW_BLOCK), np.float32)

    def gemm() -> None:
        for start in range(0, n, QUERY_BLOCK):
            rows = vectors[start : min(start + QUERY_BLOCK, n)]
            for other in range(0, len(vectors), ROW_BLOCK):
                part = vectors[other : other + ROW_BLOCK]
                np.matmul(rows, part.T, out=out[: len(rows), : len(part)])

    call = rows_of(
        db, f"select count(*) from (select 1 from knn_graph('s', {GRAPH_K}) limit {n * GRAPH_K})"
    )
    times = best({"matrix product": gemm, "knn_graph": call}, 3 if quick else 1)
    print(f"{n:,} of {len(vectors):,} rows of the graph, k = {GRAPH_K}")
    report("all against all", "matrix product", times, "GEMM")
    peak = 2 * n * len(vectors) * vectors.shape[1] / times["matrix product"] / 1e9
    print(f"GEMM peak: {peak:.0f} GFLOP/s")


def main() -> None:
    """Builds the file, measures, prints."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--n", type=int, default=100_000, help="vectors")
    parser.add_argument("--d", type=int, default=768, help="dimensions")
    parser.add_argument("--threads", type=int, default=faiss.omp_get_max_threads())
    parser.add_argument("--rounds", type=int, default=10)
    parser.add_argument("--quick", action="store_true", help="only the graph's first blocks")
    parser.add_argument("--cpu", action="store_true", help="measure processor time")
    arguments = parser.parse_args()
    if arguments.cpu:
        global clock
        clock = time.process_time
    faiss.omp_set_num_threads(arguments.threads)
    with (
        threadpoolctl.threadpool_limits(arguments.threads),
        tempfile.TemporaryDirectory() as folder,
    ):
        path = Path(folder) / "search.db"
        fill(path, arguments.n, arguments.d)
        db = connection.connect(path)
        print(f"{arguments.n:,} x {arguments.d}, {arguments.threads} threads\n")
        first_query(db, Path(folder), arguments.n, arguments.d)
        db.execute(
            f"create virtual table temp.peer using vec0(vector float[{arguments.d}] distance_metric=cosine)"
        )
        db.execute("insert into peer (rowid, vector) select item_id, vector from vectors")
        vectors = load_matrix(db.apsw, find_space(db.apsw, "s")).vectors
        one_query(db, vectors, arguments.rounds)
        many_queries(db, vectors, max(2, arguments.rounds // 3))
        graph(db, vectors, arguments.quick)
        db.close()


if __name__ == "__main__":
    main()
