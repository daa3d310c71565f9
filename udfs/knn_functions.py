"""k-nearest-neighbour search in SQL: knn, knn_batch, knn_graph."""

from collections.abc import Iterator
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs import within as within_argument
from nearsql.udfs.arguments import flag, shown, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search import neighbors
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.spaces import find_space
from nearsql.udfs.vector_functions import from_numbers, parse_vector, to_blob


@sql_function(
    columns=("id", "distance", "rank"),
    example="select id, round(distance, 4) as distance, rank from knn('digits/pixels', 1, 3)",
    estimated_rows=10,
)
def knn(
    db: apsw.Connection,
    space: str,
    query: bytes | str | int,
    k: int = 10,
    within: str | None = None,
    exact: int = 0,
) -> Iterator[tuple[int, float, int]]:
    """The k items of a space nearest to a vector BLOB, a JSON array of numbers, or an item (its id).

    An item is not its own neighbour. Distances are in the space's metric: cosine is 1 - cos, l2 the
    Euclidean distance, ip minus the inner product; equal distances come in the order of ids.

    `within` limits the search to the items of a SELECT, or of a JSON array of ids. Filtering is exact:
    there are always k rows, or as many as there are items to find. k has no limit.

    Until an index is built, every search is exact, whatever `exact` says.

    It can be joined laterally, `from items i, knn('clip', i.id, 5) k`; for many queries `knn_batch` is
    faster.
    """
    count = whole_number("k", k, at_least=1)
    flag("exact", exact)
    found = find_space(db, space)
    matrix = load_matrix(db, found)
    vector, item = _query("query", matrix, query)
    ids, distances = neighbors.nearest(
        matrix,
        vector[None, :],
        count,
        subset=within_argument.item_ids(db, within),
        exclude=None if item is None else np.array([item]),
        poll=Poll(db),
    )
    ranks = range(1, ids.shape[1] + 1)
    yield from zip(ids[0].tolist(), distances[0].tolist(), ranks, strict=True)


@sql_function(
    columns=("query", "id", "distance", "rank"),
    example="select query, id, rank from knn_batch('digits/pixels', '[1, 2]', 2)",
)
def knn_batch(
    db: apsw.Connection, space: str, queries: str, k: int = 10, within: str | None = None
) -> Iterator[tuple[Any, int, float, int]]:
    """`knn` for many queries in one call, at the speed of matrix multiplication.

    `queries` is a SELECT of item ids; or of vectors (BLOBs or JSON arrays), which are numbered from 1
    in `query`; or of two columns, a name for each query and its vector or item id. Or a JSON array of
    item ids, or of arrays of numbers.
    """
    count = whole_number("k", k, at_least=1)
    found = find_space(db, space)
    matrix = load_matrix(db, found)
    subset = within_argument.item_ids(db, within)
    poll = Poll(db)
    wanted = _queries(db, queries)
    for start in range(0, len(wanted), neighbors.QUERY_BLOCK):
        block = wanted[start : start + neighbors.QUERY_BLOCK]
        vectors = np.empty((len(block), found.dimensions), np.float32)
        items: list[int | None] = []
        for i, (_, query) in enumerate(block):
            vectors[i], item = _query(f"query {start + i + 1}", matrix, query)
            items.append(item)
        ids, distances = neighbors.nearest(
            matrix, vectors, count, subset=subset, exclude=items, poll=poll
        )
        for (name, _), row, row_distances in zip(block, ids, distances, strict=True):
            # A query whose own item was searched too may have one neighbour less than the others.
            there = int(np.isfinite(row_distances).sum())
            ranks = range(1, there + 1)
            for item_id, distance, rank in zip(
                row[:there].tolist(), row_distances[:there].tolist(), ranks, strict=True
            ):
                yield name, item_id, distance, rank


@sql_function(
    columns=("id", "neighbor_id", "distance", "rank"),
    example="select id, neighbor_id, rank from knn_graph('digits/pixels', 3) limit 6",
    estimated_rows=100_000,
)
def knn_graph(
    db: apsw.Connection, space: str, k: int = 15, within: str | None = None
) -> Iterator[tuple[int, int, float, int]]:
    """The k nearest other items of every item of a space: all against all, at matrix-multiply speed.

    With `within`, among those items only. The rows come block by block, so memory stays small; as in
    `knn`, distances are exact, equal ones come in the order of ids, and duplicates of an item are its
    neighbours.
    """
    count = whole_number("k", k, at_least=1)
    matrix = load_matrix(db, find_space(db, space))
    subset = within_argument.item_ids(db, within)
    rows = None if subset is None else matrix.positions(subset)
    ids = matrix.ids if rows is None else matrix.ids[rows]
    for start, places, distances in neighbors.graph_blocks(matrix, count, rows=rows, poll=Poll(db)):
        n, width = places.shape
        yield from zip(
            np.repeat(ids[start : start + n], width).tolist(),
            ids[places].ravel().tolist(),
            distances.ravel().tolist(),
            list(range(1, width + 1)) * n,
            strict=True,
        )


def _query(name: str, matrix: Matrix, query: Any) -> tuple[NDArray[np.float32], int | None]:
    """The vector of a query and, when it was given as an item, that item's id."""
    if isinstance(query, int):
        row = matrix.position(query)
        if row is None:
            raise SqlFunctionError(
                f"{name}: item {query} has no vector in space '{matrix.space.name}'"
            )
        return matrix.vectors[row], query
    if not isinstance(query, bytes | str):
        raise SqlFunctionError(
            f"{name} must be a vector BLOB, a JSON array or an item id, not {shown(query)}"
        )
    vector = parse_vector(name, query)
    if len(vector) != matrix.space.dimensions:
        raise SqlFunctionError(
            f"{name} has {len(vector)} dimensions, and space '{matrix.space.name}' has "
            f"{matrix.space.dimensions}"
        )
    return vector, None


def _queries(db: apsw.Connection, queries: Any) -> list[tuple[Any, Any]]:
    """(name, query) of each of the queries that `knn_batch` was given."""
    if not isinstance(queries, str) or not queries.strip():
        raise SqlFunctionError(
            f"queries must be a SELECT or a JSON array of item ids or vectors, not {shown(queries)}"
        )
    if queries.lstrip().startswith("["):
        found = within_argument.json_array("queries", queries)
        rows: list[tuple[Any, ...]] = [
            (to_blob(from_numbers(f"query {i}", query)) if isinstance(query, list) else query,)
            for i, query in enumerate(found, start=1)
        ]
    else:
        rows = within_argument.select("queries", db, queries)
    if rows and len(rows[0]) > 2:
        raise SqlFunctionError(
            f"queries must have one column, or a name and a query, and has {len(rows[0])} columns"
        )
    return [
        row if len(row) == 2 else (row[0] if isinstance(row[0], int) else i, row[0])
        for i, row in enumerate(rows, start=1)
    ]
