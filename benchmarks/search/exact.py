"""Exact search: one query, batches, all against all, and any k, beside peers and floors."""

from collections.abc import Iterator
from contextlib import contextmanager

import apsw
import faiss
import numpy as np

from benchmarks.search import floors, peers
from benchmarks.search.data import SPACE, Vectors, clustered, in_blocks
from benchmarks.search.measure import (
    Call,
    in_turns,
    least,
    of_rounds,
    seconds,
    threads,
    times_as_much,
)
from benchmarks.search.results import Result, case
from benchmarks.search.setup import Setup
from nearsql.udfs import connection, dbapi
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.spaces import find_space

K = 10
GRAPH_K = 15
BATCHES = (10, 100, 1000)
SMALL = (1_000, 10_000)
# A lateral join asks one query at a time, and takes long enough to be measured on fewer.
LATERAL = 100
# Queries of the loop over vec0 that stands for as many as there are vectors.
VEC0_SAMPLE = 10
BLAS_THRESHOLD = "distance_compute_blas_threshold"
# Above so many vectors, peers that copy them or take a second a query are left out.
MANY = 500_000

KNN = "nearsql: knn of a vector"
KNN_ITEM = "nearsql: knn of an item"
KNN_WITHIN = "nearsql: knn within half of the items"
BATCH = "nearsql: knn_batch"
LATERAL_JOIN = "nearsql: knn in a lateral join"
GRAPH = "nearsql: knn_graph"
FAISS = "faiss.knn"
FAISS_BLAS = "faiss.knn, BLAS threshold lowered"
NUMPY = "numpy: product and argpartition"
VEC0_L2 = "sqlite-vec: vec0, L2"
VEC0_COSINE = "sqlite-vec: vec0, cosine"
SCALAR = "sqlite-vec: order by vec_distance_cosine"
HNSWLIB = "hnswlib: BFIndex"
USEARCH = "usearch: exact search"
SAME_SHAPE = "matrix product of this shape alone"


def rows_of(db: dbapi.Connection, sql: str, *parameters: object) -> Call:
    """A call that runs the statement and fetches its rows."""
    return lambda: db.execute(sql, parameters).fetchall()


@contextmanager
def opened(setup: Setup, n: int, d: int) -> Iterator[tuple[dbapi.Connection, Vectors]]:
    """The database of that size, and the matrix that its process holds in memory."""
    db = connection.connect(setup.file(n, d))
    try:
        yield db, load_matrix(db.apsw, find_space(db.apsw, SPACE)).vectors
    finally:
        db.close()


def _vec0(setup: Setup, vectors: Vectors, metric: str) -> peers.Vec0:
    """vec0's table of these vectors, filled when first asked for."""
    n, d = vectors.shape
    path = setup.folder / f"vec0_{metric}_{n}x{d}.db"
    is_there = path.exists()
    table = peers.Vec0(path, d, metric)
    if not is_there:
        for block in in_blocks(vectors):
            table.insert(block)
    return table


def one_query(setup: Setup) -> Iterator[Result]:
    """One query at a time, warm."""
    for n, d in setup.sizes:
        with opened(setup, n, d) as (db, vectors), threads(setup.threads):
            yield _one_query("one query", setup, db, vectors)


def small_spaces(setup: Setup) -> Iterator[Result]:
    """The same where there is little to search, and what a call costs counts."""
    for n in SMALL:
        with opened(setup, n, setup.d) as (db, vectors), threads(setup.threads):
            yield _one_query("small spaces", setup, db, vectors)


def _one_query(section: str, setup: Setup, db: dbapi.Connection, vectors: Vectors) -> Result:
    n, d = vectors.shape
    query = clustered(1, d, seed=1)
    blob = query.tobytes()
    ways = floors.reading(vectors, setup.threads)
    calls: dict[str, Call] = dict(ways)
    calls[KNN] = rows_of(db, "select * from knn(?, ?, ?)", SPACE, blob, K)
    calls[KNN_ITEM] = rows_of(db, "select * from knn(?, 8, ?)", SPACE, K)
    calls[KNN_WITHIN] = rows_of(
        db, "select * from knn(?, 8, ?, 'select id from items where id % 2')", SPACE, K
    )
    calls[FAISS] = lambda: faiss.knn(query, vectors, K, faiss.METRIC_INNER_PRODUCT)
    calls[NUMPY] = lambda: peers.numpy_nearest(vectors, query, K, "cosine")
    missing = {}
    if usearch := peers.usearch_exact(vectors, "cosine", setup.threads):
        calls[USEARCH] = lambda: usearch(query, K)
    else:
        missing[USEARCH] = peers.NOT_INSTALLED
    if n > MANY:
        missing[HNSWLIB] = "copies all vectors: left out at this size"
    elif hnswlib := peers.hnswlib_brute_force(vectors, "cosine"):
        calls[HNSWLIB] = lambda: hnswlib(query, K)
    else:
        missing[HNSWLIB] = peers.NOT_INSTALLED
    vec0 = _vec0(setup, vectors, "l2")
    calls[VEC0_L2] = lambda: vec0.nearest(blob, K)
    tables = [vec0]
    if n > MANY:
        missing[VEC0_COSINE] = (
            "slower than L2, which ranks unit vectors alike: left out at this size"
        )
        missing[SCALAR] = "left out at this size"
    else:
        cosine = _vec0(setup, vectors, "cosine")
        tables.append(cosine)
        calls[VEC0_COSINE] = lambda: cosine.nearest(blob, K)
        calls[SCALAR] = rows_of(
            db,
            "select item_id, vec_distance_cosine(vector, ?) d from vectors order by d limit ?",
            blob,
            K,
        )
    times = in_turns(calls, setup.rounds)
    for table in tables:
        table.close()
    figures = [floors.floor(times, ways), *(times[name] for name in calls if name not in ways)]
    return Result(section, case(n, d), n, d, setup.threads, figures, missing)


def batches(setup: Setup) -> Iterator[Result]:
    """Many queries in one call, with one thread and with all."""
    n, d = setup.n, setup.d
    with opened(setup, n, d) as (db, vectors):
        for count in setup.thread_counts:
            for m in BATCHES:
                with threads(count):
                    yield _batch(setup, db, vectors, min(m, n), count)


def _batch(setup: Setup, db: dbapi.Connection, vectors: Vectors, m: int, count: int) -> Result:
    n, d = vectors.shape
    queries = vectors[:m].copy()
    chosen = f"select id from items order by id limit {m}"

    def faiss_blas() -> None:
        before = getattr(faiss.cvar, BLAS_THRESHOLD)
        setattr(faiss.cvar, BLAS_THRESHOLD, 1)
        try:
            faiss.knn(queries, vectors, K, faiss.METRIC_INNER_PRODUCT)
        finally:
            setattr(faiss.cvar, BLAS_THRESHOLD, before)

    peak_queries, peak_rows = min(n, floors.GEMM_QUERIES), min(n, 2 * floors.GEMM_ROWS)
    calls: dict[str, Call] = {
        floors.PEAK: floors.products(vectors, peak_queries, peak_rows),
        SAME_SHAPE: floors.products(vectors, m, n),
        BATCH: rows_of(db, "select * from knn_batch(?, ?, ?)", SPACE, chosen, K),
        FAISS: lambda: faiss.knn(queries, vectors, K, faiss.METRIC_INNER_PRODUCT),
        FAISS_BLAS: faiss_blas,
        NUMPY: lambda: peers.numpy_nearest(vectors, queries, K, "cosine"),
    }
    missing = {}
    if m <= LATERAL:
        calls[LATERAL_JOIN] = rows_of(
            db, f"select i.id, k.* from ({chosen}) i, knn(?, i.id, ?) k", SPACE, K
        )
    else:
        missing[LATERAL_JOIN] = f"one query at a time, as with {LATERAL}"
    times = in_turns(calls, max(2, setup.rounds // 3))
    done = floors.operations(peak_queries, peak_rows, d)
    peak = times.pop(floors.PEAK)
    rate = f"{done / peak.value / 1e9:.0f} GFLOP/s"
    at_peak = times_as_much(peak, floors.operations(m, n, d) / done, rate)
    title = f"{m:,} queries, {case(n, d)}"
    return Result("batches", title, n, d, count, [at_peak, *times.values()], missing)


def graph(setup: Setup) -> Iterator[Result]:
    """All against all, from end to end: its first rows take longer than its last ones."""
    n, d = setup.n, setup.d
    with opened(setup, n, d) as (db, vectors):
        vec0 = _vec0(setup, vectors, "l2")
        for count in setup.thread_counts:
            with threads(count):
                yield _graph(setup, db, vectors, vec0, count)
        vec0.close()


def _graph(
    setup: Setup, db: dbapi.Connection, vectors: Vectors, vec0: peers.Vec0, count: int
) -> Result:
    n, d = vectors.shape
    part = min(n, 4 * floors.GEMM_QUERIES)
    places = np.random.default_rng(2).choice(n, min(n, VEC0_SAMPLE), replace=False)
    whole = rows_of(db, "select count(*) from knn_graph(?, ?)", SPACE, GRAPH_K)

    def loop() -> None:
        for place in places:
            vec0.nearest(vectors[place].tobytes(), GRAPH_K + 1)

    calls: dict[str, Call] = {
        floors.PEAK: floors.products(vectors, part, n),
        VEC0_L2: loop,
    }
    if part == n:
        calls[GRAPH] = whole
    times = in_turns(calls, max(2, setup.rounds // 3))
    if part < n:
        # Before and after it, so that a busy moment of the machine hits what it is compared with too.
        times[GRAPH] = of_rounds(GRAPH, [seconds(whole)], note="measured once, from end to end")
        again = in_turns({floors.PEAK: calls[floors.PEAK]}, 2, warm=False)
        times[floors.PEAK] = least(floors.PEAK, [times[floors.PEAK], again[floors.PEAK]])
    figures = []
    for name, scale in ((floors.PEAK, n / part), (GRAPH, 1), (VEC0_L2, n / len(places))):
        note = "" if scale == 1 else f"{round(n / scale):,} of {n:,} rows, extrapolated"
        figures.append(times_as_much(times[name], scale, note))
    return Result("graph", case(n, d), n, d, count, figures)


def any_k(setup: Setup) -> Iterator[Result]:
    """k of thousands, and of as many as there are."""
    n, d = setup.n, setup.d
    with opened(setup, n, d) as (db, vectors), threads(setup.threads):
        blob = clustered(1, d, seed=1).tobytes()
        wanted = sorted({K, min(5000, n), n})
        calls = {
            f"nearsql: knn, k = {k:,}": rows_of(db, "select id from knn(?, ?, ?)", SPACE, blob, k)
            for k in wanted
        }
        times = in_turns(calls, max(2, setup.rounds // 2))
        for k, name in zip(wanted, calls, strict=True):
            found = db.execute("select id from knn(?, ?, ?)", (SPACE, blob, k)).fetchall()
            times[name].also["rows"] = float(len(set(found)))
            times[name].also["k"] = float(k)
        vec0 = _vec0(setup, vectors, "l2")
        missing = {}
        try:
            vec0.nearest(blob, 5000)
        except apsw.SQLError as error:
            missing["sqlite-vec: vec0, k = 5,000"] = f"refused: {error}"
        vec0.close()
        yield Result("any k", case(n, d), n, d, setup.threads, list(times.values()), missing)
