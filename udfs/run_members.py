"""The items that a finished run computed with, if their vectors are still those it read."""

from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.space_points import part
from nearsql.udfs.spaces import Space


def members_of_run(
    db: apsw.Connection, run: int, matrix: Matrix, ids: NDArray[np.int64], verb: str
) -> Matrix:
    """The rows of these items, ascending ids, in the matrix of the space that a run read.

    Other items may have come and gone since. Raises SqlFunctionError when one of these has, or has
    another vector; verb, such as 'cluster', says what to do again.
    """
    space = matrix.space
    there = part(matrix, ids)
    if len(there.ids) < len(ids):
        missing = int(np.setdiff1d(ids, there.ids)[0])
        raise SqlFunctionError(
            f"item {missing}, a member of run {run}, has no vector in space '{space.name}' any more: "
            f"{verb} the space again"
        )
    _refuse_changed(db, run, space, ids, verb)
    return there


def _refuse_changed(
    db: apsw.Connection, run: int, space: Space, ids: NDArray[np.int64], verb: str
) -> None:
    generation, token = cast(
        Any,
        db.execute(
            "select generation, generation_token from run_inputs"
            " where run_id = ? and kind = 'space' and space_id = ?",
            (run, space.id),
        ).fetchone(),
    )
    if (generation, token) == (space.generation, space.generation_token):
        return
    log = (space.id, generation)
    known = db.execute(
        "select generation_token from vector_changes where space_id = ? and generation = ?", log
    ).fetchone()
    changed = db.execute(
        "select distinct item_id from vector_changes where space_id = ? and generation > ?", log
    )
    both = np.intersect1d(ids, np.array([item for (item,) in changed], np.int64))
    if cast(Any, known) != (token,):
        raise SqlFunctionError(
            f"space '{space.name}' is not the one that run {run} read: {verb} it again"
        )
    if len(both):
        raise SqlFunctionError(
            f"the vector of item {int(both[0])}, a member of run {run}, has changed since: "
            f"{verb} space '{space.name}' again"
        )
