"""Other ways to search the same vectors, each as its authors would call it from Python."""

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import apsw
import faiss
import numpy as np
import sqlite_vec
from numpy.typing import NDArray

from benchmarks.search.data import Vectors
from nearsql.udfs.connection import CACHE_KIB, PAGE_SIZE

Ids = NDArray[np.int64]
NOT_INSTALLED = "not installed here: `pip install nearsql[benchmarks]`"

FAISS_METRICS = {"cosine": faiss.METRIC_INNER_PRODUCT, "l2": faiss.METRIC_L2}
HNSWLIB_METRICS = {"cosine": "ip", "l2": "l2"}
USEARCH_METRICS = {"cosine": "ip", "l2": "l2sq"}


def optional(name: str) -> Any:
    """The library, or None where it is not installed: not every platform has wheels of each."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


def numpy_nearest(vectors: Vectors, queries: Vectors, k: int, metric: str) -> Ids:
    """As one writes it: a matrix product, argpartition, and a sort of the k."""
    scores = queries @ vectors.T
    if metric == "l2":
        scores *= -2
        scores += np.einsum("ij,ij->i", vectors, vectors)
    else:
        np.negative(scores, out=scores)
    k = min(k, len(vectors))
    nearest = np.argpartition(scores, k - 1, axis=1)[:, :k]
    order = np.argsort(np.take_along_axis(scores, nearest, 1), axis=1)
    return np.take_along_axis(nearest, order, 1)


def true_neighbors(vectors: Vectors, queries: Vectors, k: int, metric: str) -> Ids:
    """Brute force by faiss, (m, k) positions: what recall is measured against."""
    return np.asarray(faiss.knn(queries, vectors, k, FAISS_METRICS[metric])[1], np.int64)


def recall(found: Ids, true: Ids) -> float:
    """The share of the true neighbours that were found."""
    hits = sum(len(set(a) & set(b)) for a, b in zip(found.tolist(), true.tolist(), strict=True))
    return hits / true.size


class Vec0:
    """sqlite-vec's vec0 table, alone in a file with nearsql's settings, in which it is quickest."""

    def __init__(self, path: Path, d: int, metric: str) -> None:
        self.db = apsw.Connection(str(path))
        self.db.enable_load_extension(True)
        self.db.load_extension(sqlite_vec.loadable_path())
        self.db.enable_load_extension(False)
        self.db.pragma("page_size", PAGE_SIZE)
        self.db.pragma("cache_size", -CACHE_KIB)
        self.db.pragma("journal_mode", "wal")
        self.db.pragma("synchronous", "normal")
        name = {"cosine": "cosine", "l2": "L2"}[metric]
        self.db.execute(
            f"create virtual table if not exists peer using vec0(vector float[{d}] distance_metric={name})"
        )
        self._n = 0

    def insert(self, block: Vectors) -> None:
        """Adds vectors in one transaction, numbered from 1."""
        with self.db:
            self.db.executemany(
                "insert into peer (rowid, vector) values (?, ?)",
                ((self._n + i, v.tobytes()) for i, v in enumerate(block, 1)),
            )
        self._n += len(block)

    def nearest(self, query: bytes, k: int) -> list[Any]:
        """Rows of (id, distance)."""
        sql = "select rowid, distance from peer where vector match ? and k = ?"
        return list(self.db.execute(sql, (query, k)))

    def close(self) -> None:
        """Closes the file."""
        self.db.close()


def hnswlib_brute_force(vectors: Vectors, metric: str) -> Callable[[Vectors, int], Any] | None:
    """A search by hnswlib's BFIndex, which copies the vectors; None where there is no hnswlib."""
    hnswlib = optional("hnswlib")
    if hnswlib is None:
        return None
    index = hnswlib.BFIndex(HNSWLIB_METRICS[metric], vectors.shape[1])
    index.init_index(len(vectors))
    index.add_items(vectors, np.arange(len(vectors)))

    def nearest(queries: Vectors, k: int) -> Any:
        return index.knn_query(queries, k)

    return nearest


def usearch_exact(
    vectors: Vectors, metric: str, threads: int
) -> Callable[[Vectors, int], Any] | None:
    """usearch's exact search; None where there is no usearch."""
    usearch = optional("usearch.index")
    if usearch is None:
        return None
    kind = USEARCH_METRICS[metric]

    def nearest(queries: Vectors, k: int) -> Any:
        return usearch.search(vectors, queries, k, kind, exact=True, threads=threads)

    return nearest
