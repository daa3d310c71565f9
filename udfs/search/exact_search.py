"""Exact search of a space, in what memory there is for it."""

from collections.abc import Callable, Iterator, Sequence

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search import neighbors
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.spaces import Space

Ids = NDArray[np.int64]
Distances = NDArray[np.float64]


def exact_nearest(
    db: apsw.Connection,
    space: Space,
    queries: NDArray[np.float32],
    k: int,
    *,
    subset: Ids | None = None,
    exclude: Ids | Sequence[int | None] | None = None,
    poll: Callable[[], None] | None = None,
) -> tuple[Ids, Distances]:
    """The k nearest items of each query, as `neighbors.nearest` of the space's matrix gives them."""
    matrix = load_matrix(db, space)
    return neighbors.nearest(matrix, queries, k, subset=subset, exclude=exclude, poll=poll)


def exact_graph_blocks(
    db: apsw.Connection,
    space: Space,
    k: int,
    *,
    subset: Ids | None = None,
    first: int = 0,
    poll: Callable[[], None] | None = None,
) -> Iterator[tuple[Ids, Ids, Distances]]:
    """The k nearest other items of every item, in blocks: (items (m,), neighbours (m, k'), distances).

    Items are in the order of their ids. subset: among these item ids only. first: the place of the item
    to begin at. k' is min(k, items - 1).
    """
    matrix = load_matrix(db, space)
    rows = None if subset is None else matrix.positions(subset)
    ids = matrix.ids if rows is None else matrix.ids[rows]
    for start, places, distances in neighbors.graph_blocks(
        matrix, k, rows=rows, first=first, poll=poll
    ):
        yield ids[start : start + len(places)], ids[places], distances
