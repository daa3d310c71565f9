"""Which engine answers a search, and why: the exact search, or one of the space's indexes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.arguments import shown
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search import memory
from nearsql.udfs.search.exact_search import exact_nearest
from nearsql.udfs.search.index_search import index_nearest
from nearsql.udfs.search.indexes import IndexRow, usable_index
from nearsql.udfs.search.matrix import matrix_bytes
from nearsql.udfs.spaces import Space, find_space

Ids = NDArray[np.int64]
Distances = NDArray[np.float64]

ENGINES = ("exact", "hnsw", "ivf", "vec0")


@dataclass(frozen=True, slots=True)
class Plan:
    """Who answers. index: None for the exact search. reason: a sentence without its full stop."""

    index: IndexRow | None
    reason: str

    @property
    def engine(self) -> str:
        """exact, hnsw, ivf or vec0."""
        return self.index.engine if self.index else "exact"


@contextmanager
def held_space(db: apsw.Connection, name: Any) -> Iterator[Space]:
    """The space of that name, while the connection is held on the snapshot in which it was found."""
    # As long as this statement is open, what other connections write is not seen.
    statement = db.execute("select 1 from spaces limit 1")
    try:
        next(statement, None)
        yield find_space(db, name)
    finally:
        statement.close()


def plan(
    db: apsw.Connection,
    space: Space,
    k: int,
    *,
    within: bool = False,
    exact: bool = False,
    engine: str | None = None,
) -> Plan:
    """Who answers a search for k neighbours. Changes nothing, and opens no index.

    Raises SqlFunctionError for an engine that the space has no index of, and for an index that finds
    less of the true neighbours than it must.
    """
    if engine is not None and engine not in ENGINES:
        raise SqlFunctionError(f"engine must be one of {', '.join(ENGINES)}, not {shown(engine)}")
    if exact and engine not in (None, "exact"):
        raise SqlFunctionError(f"exact = 1 and engine = '{engine}' exclude each other")
    if exact or engine == "exact":
        return Plan(None, "exact = 1 was asked for" if exact else "engine = 'exact' was asked for")
    if within:
        return Plan(None, "a search with `within` is always exact")
    index = usable_index(db, space, engine)
    if engine is None and index is None:
        index = usable_index(db, space, "vec0")
        if index is None:
            return Plan(None, "the space has no index")
        needed, limit = matrix_bytes(index.n, space.dimensions), memory.memory_limit()
        if needed <= limit:
            return Plan(
                None, "the vec0 index is for when the vectors do not fit the memory allowed"
            )
    if index is None:
        raise SqlFunctionError(
            f"space '{space.name}' has no {engine} index: build it with `nearsql index FILE "
            f"{space.name} --engine {engine}`, or leave the engine out"
        )
    if k > index.largest_k:
        return Plan(
            None, f"recall of the {index.engine} index was measured up to k = {index.largest_k}"
        )
    _refuse_low_recall(space, index, k)
    if engine is not None:
        return Plan(index, f"engine = '{engine}' was asked for")
    if index.engine == "vec0":
        return Plan(index, "the vectors do not fit the memory allowed")
    return Plan(index, "it is the newest index of the space")


def nearest(
    db: apsw.Connection,
    space: Space,
    chosen: Plan,
    queries: NDArray[np.float32],
    k: int,
    *,
    subset: Ids | None,
    exclude: Sequence[int | None],
    poll: Callable[[], None],
) -> tuple[Ids, Distances]:
    """The k nearest items of each query by the engine that was chosen, as `exact_nearest` gives them.

    The connection must be held on the snapshot of which `space` is.
    """
    if chosen.index is None:
        return exact_nearest(db, space, queries, k, subset=subset, exclude=exclude, poll=poll)
    return index_nearest(db, space, chosen.index, queries, k, exclude, poll)


def _refuse_low_recall(space: Space, index: IndexRow, k: int) -> None:
    how = index.how(k)
    if how.recall < index.min_recall:
        raise SqlFunctionError(
            f"the {index.engine} index of space '{space.name}' finds {how.recall:.1%} of the nearest "
            f"{how.k} neighbours, less than the {index.min_recall:.1%} that it must: ask with exact = 1, "
            f"build it anew with a higher --recall or a lower --min-recall, or drop it (`nearsql index "
            f"FILE {space.name} --drop`)"
        )
