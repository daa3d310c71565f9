"""The points of a cosine space that has room in memory once, but not twice.

Normalised rows are a copy of the matrix that searches share. Where both do not fit, the rows are read
anew and normalised where they are, and no other copy is kept meanwhile.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace

import apsw
import numpy as np

from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search import stored_vectors
from nearsql.udfs.search.matrix import Matrix, matrix_bytes
from nearsql.udfs.search.memory import memory_limit, residents
from nearsql.udfs.space_points import normalized
from nearsql.udfs.spaces import Space


def has_room_for_both(db: apsw.Connection, space: Space) -> bool:
    """Whether a space's matrix and its normalised rows fit the memory allowed together."""
    if space.metric != "cosine":
        return True
    rows = stored_vectors.count_rows(db, space)
    return 2 * matrix_bytes(rows, space.dimensions) <= memory_limit()


@contextmanager
def own_points(db: apsw.Connection, space: Space) -> Iterator[Matrix]:
    """All rows of a cosine space divided by their norms, as `euclidean` gives them, for as long as needed.

    Whatever else is in memory is dropped to make room. Raises TooLarge for what does not fit even alone.
    """
    poll = Poll(db)
    nbytes = matrix_bytes(stored_vectors.count_rows(db, space), space.dimensions)
    with residents.lent(nbytes, poll, f"space '{space.name}'"):
        with stored_vectors.snapshot(db, space) as current:
            ids, row_ids = stored_vectors.rows_of_space(db, current)
            vectors = np.empty((len(ids), space.dimensions), np.float32)
            stored_vectors.read_rows(db, current, row_ids, ids, vectors, poll)
        normalized(vectors, out=vectors)
        yield Matrix(ids, vectors, replace(current, metric="l2"))
