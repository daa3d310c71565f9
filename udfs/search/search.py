"""Which engine answers a search, and why: the exact search, or one of the space's indexes."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, cast

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
from nearsql.udfs.spaces import FIND, Space, find_space

Ids = NDArray[np.int64]
Distances = NDArray[np.float64]

ENGINES = ("exact", "hnsw", "ivf", "vec0")


@dataclass(frozen=True, slots=True)
class Plan:
    """Who answers, and why, in words. index: None for the exact search.

    is_refused: nobody answers, although there is an index; reason is then the error.
    """

    index: IndexRow | None
    reason: str
    is_refused: bool = False

    @property
    def engine(self) -> str:
        """exact, hnsw, ivf or vec0."""
        return self.index.engine if self.index else "exact"


@contextmanager
def held_space(db: apsw.Connection, name: Any) -> Iterator[Space]:
    """The space of that name, while the connection is held on the snapshot in which it was found.

    Raises SqlFunctionError, naming the spaces there are.
    """
    # As long as a statement is open on one of its rows, what others write is not seen.
    statement = db.execute(FIND, (name,))
    try:
        row = next(statement, None)
        yield Space(*cast(Any, row)) if row is not None else find_space(db, name)
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

    Raises SqlFunctionError for an engine that the space has no index of.
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
        return Plan(None, "the space has no index")
    if engine is None and index is not None and index.engine == "vec0":
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
    if index.how(k).recall < index.min_recall:
        return Plan(index, _low_recall(space, index, k), is_refused=True)
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

    The connection must be held on the snapshot of which `space` is. Raises SqlFunctionError for an index
    that is refused, or that cannot be used.
    """
    if chosen.is_refused:
        raise SqlFunctionError(chosen.reason)
    if chosen.index is None:
        return exact_nearest(db, space, queries, k, subset=subset, exclude=exclude, poll=poll)
    return index_nearest(db, space, chosen.index, queries, k, exclude, poll)


def _low_recall(space: Space, index: IndexRow, k: int) -> str:
    how = index.how(k)
    return (
        f"the {index.engine} index of space '{space.name}' finds {how.recall:.1%} of the nearest {how.k} "
        f"neighbours, less than the {index.min_recall:.1%} that it must: ask with exact = 1, build it "
        f"anew with a higher --recall or a lower --min-recall, or drop it (`nearsql index FILE "
        f"{space.name} --drop`)"
    )
