"""How long an index will take to build and how large it will be: told before it starts."""

import math
import time
from collections.abc import Iterator
from typing import Any

import apsw
import numpy as np
import sqlite_vec

from nearsql.pipeline.console import say
from nearsql.pipeline.estimate import duration_in_words, size_in_words
from nearsql.pipeline.index.request import Wish
from nearsql.pipeline.index.vectors import SpaceVectors, Vectors
from nearsql.udfs.search import vec0_index
from nearsql.udfs.search.faiss_calls import faiss_module
from nearsql.udfs.search.faiss_index import build

# The most rows that are indexed to be timed, and the share of all.
_MOST_TIMED, _TIMED_SHARE = 2048, 16
# A row costs more in a larger hnsw graph: from 2,048 to 70,000 rows of Fashion-MNIST 2.5 times as much.
_HNSW_POWER = 0.25
# Rows whose nearest centroids are looked for while an ivf index is trained, for each of its lists.
_TRAINED_ROWS = 10 * 40


def index_bytes(engine: str, n: int, dimensions: int, m: int, lists: int) -> int:
    """Bytes of an index of n vectors, in the file and in memory while it is built. vec0 needs no memory."""
    if engine == "hnsw":
        return n * (dimensions + 8 * m + 40)
    if engine == "ivf":
        return n * (dimensions + 24) + 4 * dimensions * lists
    return n * (4 * dimensions + 32)


def seconds_to_build(
    engine: str, vectors: SpaceVectors, parameters: dict[str, Any], wish: Wish
) -> float:
    """From a timed sample: the first rows are indexed, or compared with as many as there will be lists."""
    n, space = len(vectors), vectors.space
    if n < 2 * _TIMED_SHARE:
        return 0.0
    rows = vectors.take(np.arange(min(_MOST_TIMED, -(-n // _TIMED_SHARE))))
    size = len(rows)
    start = time.perf_counter()
    if engine == "hnsw":

        def blocks() -> Iterator[Vectors]:
            yield rows

        build(
            "hnsw",
            blocks,
            size,
            space.dimensions,
            space.metric,
            m=wish.m,
            ef_construction=wish.ef_construction,
            threads=wish.threads,
        )
        return (time.perf_counter() - start) * (n / size) ** (1 + _HNSW_POWER)
    if engine == "ivf":
        faiss, lists = faiss_module(), parameters["lists"]
        centroids = rows[np.arange(lists) % size]
        faiss.knn(rows, centroids, 1)
        return (time.perf_counter() - start) * (n + min(n, _TRAINED_ROWS * lists)) / size
    db = apsw.Connection(":memory:")
    db.enable_load_extension(True)
    db.load_extension(sqlite_vec.loadable_path())
    vec0_index.create(db, space)
    ids, kept, _ = vec0_index.stored(space, vectors.ids[:size], rows)
    vec0_index.insert(db, space, ids, kept)
    db.close()
    return (time.perf_counter() - start) * n / size


def tell(
    vectors: SpaceVectors, engine: str, parameters: dict[str, Any], wish: Wish, n_bytes: int
) -> None:
    """Says it on standard error. n_bytes: as index_bytes gives it."""
    name, n = vectors.space.name, len(vectors)
    seconds = seconds_to_build(engine, vectors, parameters, wish)
    line = (
        f"{name}: {n:,} vectors of {vectors.space.dimensions:,}, {engine}: about"
        f" {size_in_words(n_bytes)} in the file and {duration_in_words(math.ceil(seconds))} to build"
    )
    if engine != "vec0":
        line += f", {size_in_words(n_bytes)} of memory for it"
    if vectors.matrix is None:
        line += "; the vectors do not fit beside it and are read from the file as needed"
    say(line)
