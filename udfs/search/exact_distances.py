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
    if metric == "l2":
        return cast(Any, np.sqrt(out, out=out))
    if metric == "ip":
        return np.negative(out, out=out) + 0.0  # no -0.0
    size = np.sqrt(row_squares * query_squares[:, None])
    cosines = np.zeros_like(out)
    np.divide(out, size, out=cosines, where=size > 0)
    return cast(Any, np.clip(1 - cosines, 0.0, 2.0))
