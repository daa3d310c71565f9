"""Approximate search: time and recall of indexes, on real images and on synthetic vectors."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from benchmarks.search import indexes, peers
from benchmarks.search.data import (
    SPACE,
    Vectors,
    clustered,
    fashion_mnist,
    fill,
    in_blocks,
)
from benchmarks.search.measure import Call, Figure, in_turns, seconds, threads, times_as_much
from benchmarks.search.results import Result, case
from benchmarks.search.setup import Setup
from nearsql.udfs import connection, dbapi
from nearsql.udfs.table_functions import TableFunctionModule

K = 10
RECALL = 0.99
M, EF_CONSTRUCTION = 16, 200
EFFORTS = {"hnsw": (16, 24, 32, 48, 64, 128), "ivf": (8, 16, 32, 64, 128)}
EXACT_QUERIES = 20
# Recall is of all queries, time of so many of them.
TIMED = 300

EXACT = "nearsql: exact"
HNSWLIB = "hnswlib"
USEARCH = "usearch"

Search = indexes.Search


def nearsql_name(engine: str) -> str:
    """The figures of nearsql's index of that engine."""
    return f"nearsql: {engine}"


def faiss_name(engine: str) -> str:
    """The figures of faiss with the same index."""
    return f"bare faiss, nearsql's {engine} index"


def function_name(engine: str) -> str:
    """The figures of faiss with the same index, its rows handed to SQL and fetched from there."""
    return f"{faiss_name(engine)}, as a SQL function"


def as_built(name: str) -> str:
    """The figure with the effort that the build chose, rather than one of the curve."""
    return f"{name}, as built"


@dataclass
class Engine:
    """A way to search an index: what to set for an effort, and the call for one query then."""

    name: str
    kind: str  # hnsw or ivf: which efforts it knows; another: only that of its build
    search: Callable[[int], Search]
    built: int | None  # the effort that its build chose
    also: dict[str, float]  # of the index: bytes, build


@dataclass
class Case:
    """Vectors to be searched, in a database of their own, and queries that are not among them."""

    title: str
    path: Path
    vectors: Vectors
    queries: Vectors
    metric: str


def measure(setup: Setup) -> Iterator[Result]:
    """Fashion-MNIST when its folder is given, and the synthetic vectors."""
    count = 50 if setup.quick else 1000
    title = "Fashion-MNIST, 70,000 x 784"
    if setup.assets:
        vectors, queries = fashion_mnist(setup.assets)
        if setup.quick:
            vectors, queries, title = vectors[:2000], queries[:count], "Fashion-MNIST, 2,000 x 784"
        yield _measure(setup, Case(title, setup.folder / "indexed.db", vectors, queries, "l2"))
    else:
        why = "its folder was not given: --assets FOLDER, or NEARSQL_ASSETS"
        yield Result("indexed", title, 70_000, 784, setup.threads, [], {title: why})
    vectors = clustered(setup.n, setup.d)
    queries = clustered(count, setup.d, seed=1)
    title = f"clustered, {case(setup.n, setup.d)}"
    yield _measure(setup, Case(title, setup.folder / "indexed.db", vectors, queries, "cosine"))


def _measure(setup: Setup, data: Case) -> Result:
    n, d = data.vectors.shape
    true = peers.true_neighbors(data.vectors, data.queries, K, data.metric)
    fill(data.path, in_blocks(data.vectors), d, data.metric)
    missing: dict[str, str] = {}
    commands = {engine: indexes.build(data.path, engine, setup.threads) for engine in EFFORTS}
    db = connection.connect(data.path)
    engines = []
    for engine, command_s in commands.items():
        engines += _own(db, data, engine, command_s)
    for name, build in ((HNSWLIB, _hnswlib), (USEARCH, _usearch)):
        found = build(data, setup.threads)
        if found is None:
            missing[name] = peers.NOT_INSTALLED
        else:
            engines.append(found)
    with threads(setup.threads):
        figures = [*_as_built(setup, db, data, engines, true), *_curves(setup, data, engines, true)]
    db.close()
    for file in data.path.parent.glob(f"{data.path.name}*"):
        file.unlink()
    return Result("indexed", data.title, n, d, setup.threads, figures, missing)


def _own(db: dbapi.Connection, data: Case, engine: str, command_s: float) -> list[Engine]:
    """nearsql's index through SQL, and bare faiss with the same bytes."""
    index = indexes.stored(db, engine)
    bare = indexes.BareFaiss(db, index, data.vectors, data.metric)
    sql = f"select id from knn('{SPACE}', ?, {K}, null, 0, '{engine}')"

    def search(effort: int) -> Search:
        indexes.set_effort(db, index, effort)

        def nearest(query: Vectors) -> NDArray[np.int64]:
            rows = db.execute(sql, (query.tobytes(),)).fetchall()
            return np.array([row[0] for row in rows], np.int64) - 1

        return nearest

    also = {"bytes": float(index.bytes), "build": index.build_s, "command": command_s}
    return [
        Engine(nearsql_name(engine), engine, search, index.effort, also),
        Engine(faiss_name(engine), engine, lambda e: bare.search(e, K), index.effort, {}),
        Engine(
            function_name(engine),
            "function",
            lambda e: _through_sql(db, f"bare_{engine}", bare.search(e, K)),
            index.effort,
            {},
        ),
    ]


def _through_sql(db: dbapi.Connection, name: str, search: Search) -> Search:
    """The search as a SQL function that does nothing else: what SQL costs any function in Python."""

    def rows(query: bytes) -> Iterator[tuple[int]]:
        vector = np.frombuffer(query, np.float32)[None, :]
        yield from zip(search(vector).tolist(), strict=True)

    module: Any = TableFunctionModule(("id",), ("query",), rows, K)
    db.apsw.create_module(
        name, module, use_bestindex_object=True, eponymous_only=True, read_only=True
    )
    sql = f"select id from {name}(?)"

    def nearest(query: Vectors) -> NDArray[np.int64]:
        found = db.execute(sql, (query.tobytes(),)).fetchall()
        return np.array([row[0] for row in found], np.int64)

    return nearest


def _hnswlib(data: Case, n_threads: int) -> Engine | None:
    hnswlib = peers.optional("hnswlib")
    if hnswlib is None:
        return None
    n, d = data.vectors.shape
    index = hnswlib.Index(peers.HNSWLIB_METRICS[data.metric], d)
    index.init_index(n, M=M, ef_construction=EF_CONSTRUCTION, random_seed=0)
    index.set_num_threads(n_threads)
    build_s = seconds(lambda: index.add_items(data.vectors))
    index.set_num_threads(1)
    file = data.path.with_suffix(".hnswlib")
    index.save_index(str(file))
    size = file.stat().st_size
    file.unlink()

    def search(effort: int) -> Search:
        index.set_ef(effort)
        return lambda query: index.knn_query(query, K)[0][0].astype(np.int64)

    also = {"bytes": float(size), "build": build_s}
    return Engine(HNSWLIB, "hnsw", search, None, also)


def _usearch(data: Case, n_threads: int) -> Engine | None:
    usearch = peers.optional("usearch.index")
    if usearch is None:
        return None
    n, d = data.vectors.shape
    index: Any = usearch.Index(
        ndim=d,
        metric=peers.USEARCH_METRICS[data.metric],
        dtype="f32",
        connectivity=M,
        expansion_add=EF_CONSTRUCTION,
    )
    keys = np.arange(n)
    build_s = seconds(lambda: index.add(keys, data.vectors, threads=n_threads))

    def search(effort: int) -> Search:
        index.expansion_search = effort
        return lambda query: index.search(query[0], K, threads=1).keys.astype(np.int64)

    also = {"bytes": float(index.serialized_length), "build": build_s}
    return Engine(USEARCH, "hnsw", search, None, also)


def _found(search: Search, queries: Vectors, shape: tuple[int, ...]) -> NDArray[np.int64]:
    """What a search finds for each query, -1 where it found less."""
    found = np.full(shape, -1, np.int64)
    for i, row in enumerate(found):
        nearest = search(queries[i : i + 1])
        row[: len(nearest)] = nearest
    return found


def _each(search: Search, queries: Vectors) -> Call:
    """Searches for one query after the other."""
    alone = [queries[i : i + 1] for i in range(len(queries))]

    def run() -> None:
        for query in alone:
            search(query)

    return run


def _timed(
    setup: Setup,
    data: Case,
    true: NDArray[np.int64],
    searches: dict[str, tuple[Engine, int]],
    exact: Search | None = None,
) -> list[Figure]:
    """Time a query and recall@10 of some engines, each at its effort, and of exact search, in turns."""
    calls: dict[str, Call] = {}
    also = {}
    for name, (engine, effort) in searches.items():
        search = engine.search(effort)
        share = peers.recall(_found(search, data.queries, true.shape), true)  # this also warms up
        also[name] = {"recall": share, "effort": float(effort), **engine.also}
        calls[name] = _each(search, data.queries[:TIMED])
    per = dict.fromkeys(calls, min(TIMED, len(data.queries)))
    if exact is not None:
        few = data.queries[:EXACT_QUERIES]
        share = peers.recall(_found(exact, few, (len(few), K)), true[: len(few)])
        also[EXACT], per[EXACT], calls[EXACT] = {"recall": share}, len(few), _each(exact, few)
    rounds = 2 if setup.quick else 3 if exact is None else 10
    times = in_turns(calls, rounds, warm=False)
    return [replace(times_as_much(times[name], 1 / per[name]), also=also[name]) for name in calls]


def _as_built(
    setup: Setup, db: dbapi.Connection, data: Case, engines: list[Engine], true: NDArray[np.int64]
) -> list[Figure]:
    """With the efforts that the builds chose, beside exact search."""
    sql = f"select id from knn('{SPACE}', ?, {K}) where exact = 1"

    def exact(query: Vectors) -> NDArray[np.int64]:
        rows = db.execute(sql, (query.tobytes(),)).fetchall()
        return np.array([row[0] for row in rows], np.int64) - 1

    chosen = {as_built(one.name): (one, one.built) for one in engines if one.built is not None}
    return _timed(setup, data, true, chosen, exact)


def _curves(
    setup: Setup, data: Case, engines: list[Engine], true: NDArray[np.int64]
) -> Iterator[Figure]:
    """Of each engine at several efforts, those of a kind in turns."""
    for kind, efforts in EFFORTS.items():
        for effort in efforts[:: 2 if setup.quick else 1]:
            yield from _timed(
                setup,
                data,
                true,
                {f"{e.name}, {effort}": (e, effort) for e in engines if e.kind == kind},
            )
