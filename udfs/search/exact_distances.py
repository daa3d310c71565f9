"""Distances in float64 between queries and chosen rows: what every search is decided by."""

from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search.workers import in_threads
from nearsql.udfs.spaces import Metric

# Numbers of float64 that are computed on at a time, so that they stay in the CPU's caches.
_CACHED = 1 << 16


def exact_distances(
    vectors: NDArray[np.float32],
    rows: NDArray[np.int64],
    queries: NDArray[np.float32],
    metric: Metric,
    row_squares: NDArray[np.float64],
    query_squares: NDArray[np.float64],
) -> NDArray[np.float64]:
    """The distance of each query to its own rows, (m, c) float64, the same to the last bit for duplicates.

    vectors: (n, d). rows: (m, c) positions in vectors, for each query its own. queries: (m, d).
    row_squares (m, c) and query_squares (m,): the inner products with themselves, which cosine divides by.
    """
    (m, c), dimensions = rows.shape, vectors.shape[1]
    out = np.empty((m, c), np.float64)
    if not c:
        return out
    per_row = max(1, min(c, _CACHED // dimensions))
    per_query = max(1, _CACHED // (dimensions * per_row))

    def compute(i: int) -> None:
        query = queries[i : i + per_query].astype(np.float64)[:, None, :]
        for j in range(0, c, per_row):
            part = vectors[rows[i : i + per_query, j : j + per_row]]
            # Multiplied, then summed along contiguous rows: unlike BLAS, numpy then adds up every row in
            # the same order, so that duplicates are at the same distance to the last bit.
            if metric == "l2":
                terms = part - query
                np.multiply(terms, terms, out=terms)
            else:
                terms = part * query
            terms.sum(axis=2, out=out[i : i + per_query, j : j + per_row])

    in_threads(compute, range(0, m, per_query), m * c * dimensions)
    return _from_sums(out, metric, row_squares, query_squares[:, None])


def exact_distances_to_rows(
    rows: NDArray[np.float32],
    query: NDArray[np.float32],
    metric: Metric,
    row_squares: NDArray[np.float64] | None,
) -> NDArray[np.float64]:
    """The distance of one query (d,) to a few rows (c, d), (c,) float64: as `exact_distances`, in fewer steps.

    row_squares (c,): for cosine.
    """
    exact = query.astype(np.float64)
    if metric == "l2":
        terms = rows - exact
        np.multiply(terms, terms, out=terms)
        return cast(Any, np.sqrt(terms.sum(axis=1)))
    sums = (rows * exact).sum(axis=1)
    return _from_sums(sums, metric, row_squares, (exact * exact).sum())


def _from_sums(
    sums: NDArray[np.float64], metric: Metric, row_squares: Any, query_squares: Any
) -> NDArray[np.float64]:
    """The distances by the sums of squared differences, or of products, which are written over."""
    if metric == "l2":
        return cast(Any, np.sqrt(sums, out=sums))
    if metric == "ip":
        return np.negative(sums, out=sums) + 0.0  # no -0.0
    size = np.sqrt(row_squares * query_squares)
    cosines = np.zeros_like(sums)
    np.divide(sums, size, out=cosines, where=size > 0)
    return cast(Any, np.clip(1 - cosines, 0.0, 2.0))
