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
from nearsql.udfs.search import search, stored_vectors
from nearsql.udfs.search.exact_search import exact_graph_blocks
from nearsql.udfs.search.matrix import resident_matrix
from nearsql.udfs.search.neighbors import QUERY_BLOCK
from nearsql.udfs.search.stored_vectors import Matrix
from nearsql.udfs.spaces import Space, find_space
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
    engine: str | None = None,
) -> Iterator[tuple[int, float, int]]:
    """The k items of a space nearest to a vector BLOB, a JSON array of numbers, or an item (its id).

    An item is not its own neighbour. Distances are in the space's metric: cosine is 1 - cos, l2 the
    Euclidean distance, ip minus the inner product; equal distances come in the order of ids. There are
    always k rows, or as many as there are items to find. k has no limit.

    `within` limits the search to the items of a SELECT, of a JSON array of ids, or of a selection, by its
    name. Filtering is exact.

    The search is exact until the space has an index (`nearsql index`), which is then used: it finds nearly
    all of the true neighbours, the share that was measured when it was built, and is never out of date,
    since what changed afterwards is searched exactly. Distances are exact in any case. `exact` = 1 asks for
    the exact search, which is also what `within` and a k above 100 get. `engine` names one: 'exact', or
    an index of the space by 'hnsw', 'ivf' or 'vec0'. An index that finds too little is refused.
    `search_plan` says which engine answers and why.

    It can be joined laterally, `from items i, knn('clip', i.id, 5) k`; for many queries `knn_batch` is
    faster.
    """
    count = whole_number("k", k, at_least=1)
    is_exact = flag("exact", exact)
    poll = Poll(db)
    with search.held_space(db, space) as found:
        chosen = search.plan(
            db, found, count, within=within is not None, exact=is_exact, engine=engine
        )
        vectors, items = _vectors(db, found, [("query", query)])
        ids, distances = search.nearest(
            db,
            found,
            chosen,
            vectors,
            count,
            subset=within_argument.item_ids(db, within),
            exclude=items,
            poll=poll,
        )
    ranks = range(1, ids.shape[1] + 1)
    yield from zip(ids[0].tolist(), distances[0].tolist(), ranks, strict=True)


@sql_function(
    columns=("query", "id", "distance", "rank"),
    example="select query, id, rank from knn_batch('digits/pixels', '[1, 2]', 2)",
)
def knn_batch(
    db: apsw.Connection,
    space: str,
    queries: str,
    k: int = 10,
    within: str | None = None,
    exact: int = 0,
    engine: str | None = None,
) -> Iterator[tuple[Any, int, float, int]]:
    """`knn` for many queries in one call, at the speed of matrix multiplication.

    `queries` is a SELECT of item ids; or of vectors (BLOBs or JSON arrays), which are numbered from 1
    in `query`; or of two columns, a name for each query and its vector or item id. Or a JSON array of
    item ids, or of arrays of numbers. Each query gets the rows that `knn` gives it.
    """
    count = whole_number("k", k, at_least=1)
    is_exact = flag("exact", exact)
    poll = Poll(db)
    with search.held_space(db, space) as found:
        chosen = search.plan(
            db, found, count, within=within is not None, exact=is_exact, engine=engine
        )
        subset = within_argument.item_ids(db, within)
        wanted = _queries(db, queries)
        for start in range(0, len(wanted), QUERY_BLOCK):
            block = wanted[start : start + QUERY_BLOCK]
            # Whoever takes the rows may have written to the space in between.
            stored_vectors.refuse_changed(found, find_space(db, space))
            vectors, items = _vectors(
                db, found, [(f"query {start + i}", query) for i, (_, query) in enumerate(block, 1)]
            )
            ids, distances = search.nearest(
                db, found, chosen, vectors, count, subset=subset, exclude=items, poll=poll
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
    `knn`, equal distances come in the order of ids, and duplicates of an item are its neighbours. Always
    exact, whatever index the space has.
    """
    count = whole_number("k", k, at_least=1)
    found = find_space(db, space)
    subset = within_argument.item_ids(db, within)
    for items, found_ids, distances in exact_graph_blocks(
        db, found, count, subset=subset, poll=Poll(db)
    ):
        n, width = found_ids.shape
        yield from zip(
            np.repeat(items, width).tolist(),
            found_ids.ravel().tolist(),
            distances.ravel().tolist(),
            list(range(1, width + 1)) * n,
            strict=True,
        )


def _vectors(
    db: apsw.Connection, space: Space, queries: list[tuple[str, Any]]
) -> tuple[NDArray[np.float32], list[int | None]]:
    """The vector of each (name, query), (m, d), and the item id of those that were given as items."""
    vectors = np.empty((len(queries), space.dimensions), np.float32)
    items: list[int | None] = [query if isinstance(query, int) else None for _, query in queries]
    stored = None
    if asked := [item for item in items if item is not None]:
        stored = resident_matrix(db, space)
        if stored is None:
            stored = stored_vectors.vectors_of_items(db, space, np.array(asked, np.int64))
    for i, (name, query) in enumerate(queries):
        if stored is not None and isinstance(query, int):
            vectors[i] = _vector_of_item(name, stored, query)
        else:
            vectors[i] = _given_vector(name, space, query)
    return vectors, items


def _vector_of_item(name: str, stored: Matrix, item: int) -> NDArray[np.float32]:
    row = stored.position(item)
    if row is None:
        raise SqlFunctionError(f"{name}: item {item} has no vector in space '{stored.space.name}'")
    return stored.vectors[row]


def _given_vector(name: str, space: Space, query: Any) -> NDArray[np.float32]:
    if not isinstance(query, bytes | str):
        raise SqlFunctionError(
            f"{name} must be a vector BLOB, a JSON array or an item id, not {shown(query)}"
        )
    vector = parse_vector(name, query)
    if len(vector) != space.dimensions:
        raise SqlFunctionError(
            f"{name} has {len(vector)} dimensions, and space '{space.name}' has {space.dimensions}"
        )
    return vector


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
