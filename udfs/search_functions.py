"""How a search is answered, in SQL: search_plan."""

from collections.abc import Iterator
from typing import Any

import apsw

from nearsql.udfs.arguments import flag, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search import memory
from nearsql.udfs.search.changes import count_changes
from nearsql.udfs.search.indexes import IndexRow, resident_index
from nearsql.udfs.search.matrix import matrix_bytes, resident_matrix
from nearsql.udfs.search.search import Plan, held_space, plan
from nearsql.udfs.search.stored_vectors import count_rows
from nearsql.udfs.spaces import Space


@sql_function(
    columns=("fact", "value"),
    example="select fact, value from search_plan('digits/pixels') where fact <> 'memory_limit'",
    estimated_rows=12,
)
def search_plan(
    db: apsw.Connection,
    space: str,
    k: int = 10,
    within: str | None = None,
    exact: int = 0,
    engine: str | None = None,
) -> Iterator[tuple[str, Any]]:
    """What `knn` with these arguments would do, a fact a row. Nothing is searched.

    `engine` (exact, hnsw, ivf or vec0; NULL where `knn` refuses), `is_exact`, `reason` (why that engine, or
    why it refuses), `rows` (vectors of the space), `recall` (the share of the true neighbours that is
    found; 1 if exact), `bytes_in_memory` (of the vectors or the index, now; 0 before the first search),
    `memory_limit` (for all that is kept, the environment variable NEARSQL_MEMORY).

    Of an index besides: `changed_since_build` (items that are searched exactly), `effort` and `candidates`
    (how it is searched), `min_recall`, `built_at`, `run_id`, `bytes_in_file`. Of the exact search:
    `bytes_needed` (more than the limit: part of the vectors is read anew for each search).
    """
    count = whole_number("k", k, at_least=1)
    is_exact = flag("exact", exact)
    with held_space(db, space) as found:
        chosen = plan(db, found, count, within=within is not None, exact=is_exact, engine=engine)
        facts = list(_facts(db, found, chosen, count))
    yield from facts


def _facts(db: apsw.Connection, space: Space, chosen: Plan, k: int) -> Iterator[tuple[str, Any]]:
    index = chosen.index
    engine: str | None = None if chosen.is_refused else chosen.engine
    reason, changed = chosen.reason, None
    if index is not None:
        try:
            changed = count_changes(db, space, index)
        except SqlFunctionError as error:
            engine, reason = None, str(error)
    rows = count_rows(db, space)
    yield "engine", engine
    yield "is_exact", int(index is None)
    yield "reason", reason
    yield "rows", rows
    if index is None:
        matrix = resident_matrix(db, space)
        yield "recall", 1.0
        yield "bytes_needed", matrix_bytes(rows, space.dimensions)
        yield "bytes_in_memory", 0 if matrix is None else matrix_bytes(*matrix.vectors.shape)
    else:
        yield from _index_facts(db, index, k, changed)
    yield "memory_limit", memory.memory_limit()


def _index_facts(
    db: apsw.Connection, index: IndexRow, k: int, changed: int | None
) -> Iterator[tuple[str, Any]]:
    how = index.how(k)
    opened = None if index.engine == "vec0" else resident_index(db, index)
    yield "recall", how.recall
    yield "min_recall", index.min_recall
    yield "changed_since_build", changed
    yield "effort", how.effort
    yield "candidates", how.candidates * k
    yield "built_at", index.created_at
    yield "run_id", index.run_id
    yield "bytes_in_file", index.nbytes
    yield "bytes_in_memory", 0 if opened is None else opened.nbytes
