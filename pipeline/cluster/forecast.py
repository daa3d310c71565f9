"""How long a clustering will take and how much memory: told before it starts.

Nearly all the time goes to products of vectors, which are timed on the spot, and to work that each item
takes, whose cost was measured: 10,000 and 25,000 vectors of 256 dimensions, exactly and from a graph.
"""

import time
from dataclasses import dataclass
from typing import Any

import numpy as np

from nearsql.pipeline.console import say
from nearsql.pipeline.estimate import duration_in_words, size_in_words
from nearsql.udfs import dbapi
from nearsql.udfs.own_points import has_room_for_both
from nearsql.udfs.search.stored_graph import graph_run
from nearsql.udfs.spaces import Space, find_space

# Shorter work needs no forecast, here and for maps.
SECONDS_WORTH_SAYING = 5.0

# Exactly, all against all is multiplied half a time for the neighbours, and about two and a half times
# for the searches beyond them and the ties; of few points, whose products are kept, half a time in all.
_NEIGHBORS, _BEYOND = 0.5, 2.5
_SECONDS_A_ROW = 140e-6
_SECONDS_A_ROW_OF_TOPICS = 200e-6
# From a graph, points are compared with the centroids of 2 sqrt(n) lists (40 points a list take part in
# making these, 10 times) and with the members of about so many lists, for neighbours and for edges.
_LISTS_COMPARED = 40
# As many are clustered in both ways, to see how far these agree.
_COMPARED = 10_000

# An item's neighbours and its place in the trees; blocks of products.
_BYTES_A_ROW, _BLOCKS_BYTES = 4096, 2**26
_BYTES_A_NUMBER = 4  # of a vector, and a product
# Rows multiplied to be timed.
_TIMED = (256, 16_384)


@dataclass(frozen=True, slots=True)
class Work:
    """What a clustering amounts to: products of two vectors, and seconds besides."""

    products: float
    seconds: float


def tell(
    db: dbapi.Connection, space: str, total: int, sampled: int, parameters: dict[str, Any]
) -> None:
    """Says how many items it will be, and for long work the time and the memory.

    parameters: those that the run will record.
    """
    found = find_space(db.apsw, space)
    expected = work(sampled, parameters, _has_neighbors(db, found, total, sampled, parameters))
    seconds = expected.products * seconds_a_product(found.dimensions) + expected.seconds
    line = f"{space}: " + (
        f"{sampled:,} items" if sampled == total else f"{sampled:,} of {total:,} items"
    )
    if seconds >= SECONDS_WORTH_SAYING:
        vector = _BYTES_A_NUMBER * found.dimensions
        is_normalized_in_place = (
            sampled == total
            and _isproducts_of_graph(parameters)
            and not has_room_for_both(db.apsw, found)
        )
        copies = (sampled < total) + (found.metric == "cosine" and not is_normalized_in_place)
        a_row = copies * vector + _BYTES_A_ROW
        memory = total * vector + sampled * a_row + _BLOCKS_BYTES
        memory += _BYTES_A_NUMBER * _kept(sampled, parameters) ** 2
        line += f", about {duration_in_words(seconds)} and {size_in_words(memory)} of memory"
    say(line)


def work(n: int, parameters: dict[str, Any], has_neighbors: bool) -> Work:
    """What a run of these parameters does with n items, whose neighbours are stored or not."""
    search = 0.0 if has_neighbors else _NEIGHBORS
    if parameters["method"] == "topics":
        return Work(search * n**2, _SECONDS_A_ROW_OF_TOPICS * n)
    if parameters["neighbors"] == "exact":
        products = _NEIGHBORS if _kept(n, parameters) else search + _BEYOND
        return Work(products * n**2, _SECONDS_A_ROW * n)
    compared = min(n, _COMPARED)
    return Work(
        products_of_graph(n) + products_of_graph(compared) + _NEIGHBORS * compared**2,
        _SECONDS_A_ROW * (n + 2 * compared),
    )


def _isproducts_of_graph(parameters: dict[str, Any]) -> bool:
    """Whether a run of these parameters makes its clusters from a neighbour graph."""
    return parameters["method"] == "hdbscan" and parameters["neighbors"] == "graph"


def _kept(n: int, parameters: dict[str, Any]) -> int:
    """Of how many points all products are kept."""
    if parameters["method"] != "hdbscan":
        return 0
    if _isproducts_of_graph(parameters):
        return min(n, _COMPARED)
    from nearsql.udfs.clustering.products import KEPT_POINTS  # imports numba

    return n if n <= KEPT_POINTS else 0


def products_of_graph(n: int) -> float:
    """How many products an approximate neighbour graph of n items takes."""
    lists = 2 * n**0.5
    return 10 * min(n, 40 * lists) * lists + n * lists + n * _LISTS_COMPARED * n / lists


def _has_neighbors(
    db: dbapi.Connection, space: Space, total: int, sampled: int, parameters: dict[str, Any]
) -> bool:
    """Whether neighbours are stored that will be read. Those of some items are not all among these."""
    if sampled < total:
        return False
    if parameters["method"] == "topics":
        k = parameters["n_neighbors"]
    else:
        from nearsql.udfs.clustering.spanning_tree import n_neighbors_needed  # imports numba

        k = n_neighbors_needed(sampled, parameters["min_samples"])
    return graph_run(db.apsw, space, k) is not None


def seconds_a_product(dimensions: int) -> float:
    """Of two vectors, in a product of matrices."""
    columns = np.random.default_rng(0).random((_TIMED[1], dimensions), np.float32)
    rows = columns[: _TIMED[0]]
    np.matmul(rows[:16], columns.T)  # what the first product alone has to prepare
    start = time.perf_counter()
    np.matmul(rows, columns.T)
    return (time.perf_counter() - start) / (len(rows) * len(columns))
