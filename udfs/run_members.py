"""A finished run that others build on: its record, and its items, if their vectors are still those it read."""

import json
from typing import Any, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.space_points import part
from nearsql.udfs.spaces import Space
from nearsql.udfs.sql_files import read_sql


def finished_run(
    db: apsw.Connection, run: int, kind: str, *, called: str, lacks: str
) -> tuple[dict[str, Any], str | None, Any]:
    """The parameters of a run of that kind, the space it read (None: deleted, or it read none), and what
    tells it from a later run of its number.

    called and lacks: what such runs are, and what an unfinished one does not have, for the sentence. Raises
    SqlFunctionError when there is no such run, or it is of another kind, or not finished.
    """
    row = db.execute(read_sql(__package__, "run_and_space"), {"run": run}).fetchone()
    if row is None:
        runs = [str(newest) for (newest,) in db.execute(_NEWEST, (kind,))]
        there_are = f"the newest are {', '.join(runs)}" if runs else f"run `nearsql {kind}` first"
        raise SqlFunctionError(f"there is no run {run}: {called} have numbers, {there_are}")
    its_kind, status, parameters, started_at, sha256, space = cast(Any, row)
    if its_kind != kind:
        raise SqlFunctionError(f"run {run} is of kind '{its_kind}', not '{kind}'")
    if status != "finished":
        raise SqlFunctionError(f"run {run} is {status}, and has {lacks}")
    return json.loads(parameters), space, (started_at, sha256)


_NEWEST = "select id from runs where kind = ? and status = 'finished' order by id desc limit 10"


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
