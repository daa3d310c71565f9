"""How much two spaces agree on who is near whom: the neighbours that an item has in both.

The mean of the overlap is the mutual k-nearest-neighbour alignment of Huh, Cheung, Wang and Isola, "The
Platonic Representation Hypothesis" (ICML 2024).
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs import within as within_argument
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search.exact_search import exact_graph_blocks
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.search.memory import TooLarge
from nearsql.udfs.search.stored_graph import stored_graph
from nearsql.udfs.search.stored_vectors import rows_of_space
from nearsql.udfs.spaces import Space

Ids = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Compared:
    """Two spaces over the items that both hold.

    items: (n,), ascending, n >= 2. k: how many neighbours of each are compared, at most n - 1. only_a and
    only_b: how many items one of the spaces lacks. of_a: whether these items are all of the first space, and
    so its stored neighbours serve; of_b likewise.
    """

    a: Space
    b: Space
    items: Ids
    k: int
    only_a: int
    only_b: int
    of_a: bool
    of_b: bool


def compared_items(
    db: apsw.Connection, a: Space, b: Space, k: int, within: str | None = None
) -> Compared:
    """Which items of two spaces are compared: those in both, and in `within` where that is given.

    Raises SqlFunctionError when there are fewer than two, and for a `within` that names no items.
    """
    ids_a, ids_b = rows_of_space(db, a)[0], rows_of_space(db, b)[0]
    n_a, n_b = len(ids_a), len(ids_b)
    some = within_argument.item_ids(db, within)
    if some is not None:
        ids_a, ids_b = np.intersect1d(ids_a, some), np.intersect1d(ids_b, some)
    items = np.intersect1d(ids_a, ids_b, assume_unique=True)
    n = len(items)
    if n < 2:
        raise SqlFunctionError(
            f"spaces '{a.name}' and '{b.name}' have {n} item{'s' * (n != 1)} in common"
            f"{'' if some is None else ' of those in within'}, and 2 are needed to be neighbours"
        )
    return Compared(a, b, items, min(k, n - 1), len(ids_a) - n, len(ids_b) - n, n == n_a, n == n_b)


def shared_neighbors(
    db: apsw.Connection,
    compared: Compared,
    poll: Callable[[], None] | None = None,
    advance: Callable[[int], None] = lambda n: None,
) -> Iterator[tuple[Ids, Ids]]:
    """In blocks of items, in their order: (items (m,), how many of their k neighbours are in both (m,)).

    The neighbours of an item are its k nearest others among the compared items, exactly, ties by
    (distance, id): those of knn_graph with `within`. Those of the first space are held, n * k numbers.
    advance is told how many items' neighbours have been found in a space, 2 * n in all.
    """
    a, b = compared.a, compared.b
    nearest = np.empty((len(compared.items), compared.k), np.int64)
    start = 0
    for _, found in _graph(db, a, compared, compared.of_a, poll):
        nearest[start : start + len(found)] = found
        start += len(found)
        advance(len(found))
    start = 0
    for items, found in _graph(db, b, compared, compared.of_b, poll):
        yield items, count_shared(nearest[start : start + len(found)], found)
        start += len(found)
        advance(len(found))


def count_shared(one: Ids, other: Ids) -> Ids:
    """How many numbers each row of one has in common with that row of the other: (m, k) each, (m,).

    No row has a number twice.
    """
    both = np.sort(np.concatenate([one, other], axis=1), axis=1)
    shared: Ids = (both[:, 1:] == both[:, :-1]).sum(axis=1)
    return shared


def jaccard(shared: Ids, k: int) -> NDArray[np.float64]:
    """The share of the neighbours in either space that are in both, of two lists of k, (m,)."""
    return shared / (2 * k - shared)


def _graph(
    db: apsw.Connection,
    space: Space,
    compared: Compared,
    is_whole: bool,
    poll: Callable[[], None] | None,
) -> Iterator[tuple[Ids, Ids]]:
    """(items, their neighbours' ids) in blocks; from what is stored of the space, if that serves."""
    if is_whole:
        known = _stored(db, space, compared.k)
        if known is not None:
            yield compared.items, compared.items[known]
            return
    subset = None if is_whole else compared.items
    for items, found, _ in exact_graph_blocks(db, space, compared.k, subset=subset, poll=poll):
        yield items, found


def _stored(db: apsw.Connection, space: Space, k: int) -> Ids | None:
    try:
        matrix = load_matrix(db, space)
    except TooLarge:
        return None
    graph = stored_graph(db, matrix, k)
    return None if graph is None else graph[0]
