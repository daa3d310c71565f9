"""A space's neighbour graph that `nearsql neighbors` has stored, read instead of computed anew.

Whoever needs a graph asks here first. What is read is what computing would give, to the last bit: a
stored graph makes results come sooner, never otherwise. So its rows are believed only when they are
those of a finished run on these very vectors, all there, and in the order of (distance, id).
"""

from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from contextvars import ContextVar
from itertools import islice
from typing import Any, NamedTuple, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import neighbor_graph
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.spaces import Space
from nearsql.udfs.sql_files import read_sql

# Rows that are looked at together: 24 MB.
_ROWS_AT_ONCE = 1 << 20
_ROW = np.dtype([("item", np.int64), ("neighbor", np.int64), ("distance", np.float64)])


class GraphRun(NamedTuple):
    """A finished run that stored a space's graph: of n items, k neighbours each."""

    id: int
    n: int
    k: int


def graph_run(db: apsw.Connection, space: Space, k: int) -> GraphRun | None:
    """The newest finished run that stored at least k neighbours, or all there are, of each item.

    Of the space's vectors at the generation that `space` names; None when there is no such run.
    """
    asked = {
        "space_id": space.id,
        "generation": space.generation,
        "generation_token": space.generation_token,
        "k": k,
    }
    sql = read_sql(__package__, "stored_graph_run")
    row = db.execute(sql, asked).fetchone()
    return None if row is None else GraphRun(*cast(Any, row))


def stored_graph(
    db: apsw.Connection, matrix: Matrix, k: int, fewest: int | None = None
) -> tuple[Ids, Distances] | None:
    """`neighbor_graph(matrix, k)` as it is stored: (places, distances), both (n, k'); or None.

    fewest: be content with so many neighbours of each item where there are no k. None when nothing is
    stored that serves: of these vectors, whole, with enough neighbours. Of some of a space's items there
    is never one, since each one's nearest are not all among them.
    """
    found = graph_run(db, matrix.space, k if fewest is None else min(fewest, k))
    if found is None or found.n != len(matrix.ids):
        return None
    graph = _read(db, found.id, matrix, min(k, found.k))
    if graph is not None:
        noted = _noted.get()
        if noted is not None:
            noted.add(found.id)
    return graph


def known_graph(
    db: apsw.Connection, matrix: Matrix, k: int, *, poll: Callable[[], None] | None = None
) -> tuple[Ids, Distances]:
    """`neighbor_graph(matrix, k, poll=poll)`, from what is stored if that serves."""
    found = stored_graph(db, matrix, k)
    return neighbor_graph(matrix, k, poll=poll) if found is None else found


_noted: ContextVar[set[int] | None] = ContextVar("graph_runs_read", default=None)


@contextmanager
def noting_graph_runs() -> Iterator[set[int]]:
    """Fills the set with the runs whose graphs are read within the block, for who records inputs."""
    read: set[int] = set()
    token = _noted.set(read)
    try:
        yield read
    finally:
        _noted.reset(token)


def _read(
    db: apsw.Connection, run_id: int, matrix: Matrix, width: int
) -> tuple[Ids, Distances] | None:
    """The first `width` neighbours of each item; None when the rows are not those of a whole graph."""
    ids, n = matrix.ids, len(matrix.ids)
    places = np.empty((n, width), np.int64)
    distances = np.empty((n, width), np.float64)
    step = max(1, _ROWS_AT_ONCE // max(1, width))
    # In the order of the table's primary key. Ranks are whole, positive and different, so that so many
    # rows of each item are all of the first ranks.
    cursor = db.execute(
        "select item_id, neighbor_id, distance from neighbors"
        " where run_id = ? and rank <= ? order by item_id, rank",
        (run_id, width),
    )
    with closing(cursor):
        for start in range(0, n, step):
            own = np.arange(start, min(start + step, n))
            try:
                rows = np.fromiter(cast(Any, islice(cursor, len(own) * width)), _ROW)
            except (TypeError, ValueError):  # a table that lets other types in is not ours
                return None
            if not np.array_equal(rows["item"], np.repeat(ids[own], width)):
                return None
            block = np.minimum(np.searchsorted(ids, rows["neighbor"]), n - 1)
            if (ids[block] != rows["neighbor"]).any():
                return None
            places[own] = block.reshape(-1, width)
            distances[own] = rows["distance"].reshape(-1, width)
            if not _is_ordered(own, places[own], distances[own]):
                return None
        if next(cursor, None) is not None:
            return None
    return places, distances


def _is_ordered(own: Ids, places: Ids, distances: Distances) -> bool:
    """Whether each list is in the order of (distance, place), without its own item or one twice."""
    before, after = distances[:, :-1], distances[:, 1:]
    rises: NDArray[np.bool_] = (before < after) | (
        (before == after) & (places[:, :-1] < places[:, 1:])
    )
    is_other = places != own[:, None]
    return bool(rises.all() and is_other.all() and np.isfinite(distances).all())
