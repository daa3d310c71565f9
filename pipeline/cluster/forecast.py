"""How long a clustering will take and how much memory: told before it starts."""

import time
from typing import Any

import numpy as np

from nearsql.pipeline.console import say
from nearsql.pipeline.estimate import duration_in_words, size_in_words
from nearsql.udfs import dbapi
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.spaces import find_space

# All against all is multiplied about three times: for the neighbours, the searches beyond them, and
# (half of all pairs) the ties. Shorter work needs no forecast.
_PRODUCTS = 3
_SECONDS_WORTH_SAYING = 5.0
# An item's neighbour list and its place in the trees.
_LIST_BYTES = 1024


def tell(
    db: dbapi.Connection, space: str, total: int, sampled: int, parameters: dict[str, Any]
) -> None:
    """Says how many items it will be, and for long work the time, by one block of products, and memory."""
    items = f"{sampled:,} items" if sampled == total else f"{sampled:,} of {total:,} items"
    vectors = load_matrix(db.apsw, find_space(db.apsw, space)).vectors[:sampled]
    block = vectors[:256]
    start = time.perf_counter()
    np.matmul(block, vectors.T)
    seconds = (time.perf_counter() - start) * _PRODUCTS * sampled / len(block)
    line = f"{space}: {items}"
    if seconds >= _SECONDS_WORTH_SAYING:
        memory = 2 * vectors.nbytes + sampled * _LIST_BYTES + 2**26
        line += f", about {duration_in_words(seconds)} and {size_in_words(memory)} of memory"
    say(line)
