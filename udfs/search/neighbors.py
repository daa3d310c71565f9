"""Exact nearest neighbours in a matrix.

Candidates come from faiss in float32, at the speed of memory (few queries) or of matrix
multiplication (many). Their distances are then computed in float64 from the stored rows, and where
float32's rounding could have hidden a nearer row, more candidates are taken. So the result is that of
float64 brute force over all rows, ordered by (distance, id).

Distances: cosine = 1 - cos, where a vector of zeros has distance 1 to everything (scikit-learn's
convention); l2 = the Euclidean distance; ip = minus the inner product.
"""

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.search.row_search import QUERY_BLOCK, search_among
from nearsql.udfs.search.symmetric_graph import SymmetricGraph, is_worthwhile
from nearsql.udfs.search.workers import Poll, in_order

__all__ = ["QUERY_BLOCK", "graph_blocks", "nearest", "neighbor_graph"]


def nearest(
    matrix: Matrix,
    queries: NDArray[np.float32],
    k: int,
    *,
    subset: Ids | None = None,
    exclude: Ids | Sequence[int | None] | None = None,
    poll: Poll | None = None,
) -> tuple[Ids, Distances]:
    """The k nearest rows of each query, as (ids, distances), both (m, k') and ordered by (distance, id).

    queries: (m, d), cast to float32. subset: search only these item ids (those not in the space are
    ignored). exclude: (m,), for each query the item id that it must not find, or None. poll is called between
    blocks of the computation. k' is min(k, rows searched); a query whose excluded item is among them may
    have one neighbour less than the others: that place holds id -1 at distance inf. Raises ValueError
    for queries of another shape, or with NaN or infinity.
    """
    queries = np.asarray(queries, np.float32)
    if queries.ndim != 2 or queries.shape[1] != matrix.space.dimensions:
        raise ValueError(
            f"queries must be of shape (m, {matrix.space.dimensions}), not {queries.shape}"
        )
    if not np.isfinite(queries).all():
        raise ValueError("queries must be finite float32 numbers")
    rows = None if subset is None else matrix.positions(subset)
    search = search_among(matrix, rows)
    left_out = None if exclude is None else search.places_of(exclude)
    places, distances = search.nearest(queries, k, left_out, poll)
    ids = matrix.ids if rows is None else matrix.ids[rows]
    found = np.where(places >= 0, ids[places], -1) if len(ids) else places
    return found, distances


def neighbor_graph(
    matrix: Matrix,
    k: int,
    *,
    subset: Ids | None = None,
    poll: Poll | None = None,
) -> tuple[Ids, Distances]:
    """The k nearest other rows of every row, as (places, distances), both (n, k').

    Places are row positions in the matrix; with a subset of item ids, both the rows and the places are
    those of `matrix.positions(subset)`. A row is left out of its own neighbours by its id, so duplicates
    of it stay. k' is min(k, n - 1).
    """
    rows = None if subset is None else matrix.positions(subset)
    n = len(matrix.ids) if rows is None else len(rows)
    width = max(0, min(k, n - 1))
    places = np.empty((n, width), np.int64)
    distances = np.empty((n, width), np.float64)
    for start, block, block_distances in graph_blocks(matrix, k, rows=rows, poll=poll):
        places[start : start + len(block)] = block
        distances[start : start + len(block)] = block_distances
    return places, distances


def graph_blocks(
    matrix: Matrix,
    k: int,
    *,
    rows: Ids | None = None,
    first: int = 0,
    poll: Poll | None = None,
) -> Iterator[tuple[int, Ids, Distances]]:
    """The neighbour graph in blocks of rows: (first row, places, distances) as in `neighbor_graph`.

    Each block but the last is of QUERY_BLOCK rows or a multiple. rows: positions in the matrix, ascending;
    rows and places are then counted in them. first: the row to begin at, for who has those before it.

    By half of the multiplications where that is quicker (`symmetric_graph`); the result is the same.
    """
    search = search_among(matrix, rows)
    width = max(0, min(k, search.n - 1))
    if is_worthwhile(search, width, first):
        graph = SymmetricGraph(search, width, first)
        yield from graph.blocks(poll)
        first = graph.next
        del graph  # its candidates, if the rest is searched
    height = search.query_block

    def block(start: int, poll: Poll) -> tuple[int, Ids, Distances]:
        own = np.arange(start, min(start + height, search.n))
        queries = search.vectors_of(own[0], own[-1] + 1)
        return start, *search.nearest(queries, width, own, poll)

    starts = range(first, search.n, height)
    yield from in_order(block, starts, search.products(search.n - first), poll)
