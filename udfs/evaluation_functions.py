"""Who voted in an evaluation: evaluation_neighbors."""

import math
from collections.abc import Callable, Iterator, Sequence
from typing import Any, cast

import apsw
import numpy as np

from nearsql.udfs.arguments import one_of, optional_whole_number, shown, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.run_members import finished_run
from nearsql.udfs.sql_files import read_sql
from nearsql.udfs.vote_functions import WEIGHTINGS, vote_weights


@sql_function(
    columns=("item_id", "neighbor_id", "rank", "distance", "weight"),
    example=(
        "select neighbor_id, rank, round(distance, 4) as distance, round(weight, 4) as weight\n"
        "from evaluation_neighbors(\n"
        "    (select min(id) from runs where kind = 'evaluate'), 'digits/pixels', 1, 'distance')\n"
        "limit 3"
    ),
    estimated_rows=100_000,
)
def evaluation_neighbors(
    db: apsw.Connection,
    run: int,
    space: str | None = None,
    item: int | None = None,
    weighting: str | None = None,
) -> Iterator[tuple[int, int, int, float, float | None]]:
    """The items that vote for each item in an evaluation (`nearsql evaluate`), nearest first.

    They are its nearest items of other folds, as many as the largest k; those of rank 1 to k vote for k:
    `vote(label, distance, 'uniform')` over them is what `cv_predictions` has. `space` is one that the run
    evaluated, and may be left out where there is only one; `item` asks for one item's voters.

    `weight` is what a vote counts by a `weighting` of the run; NULL without one, and for a neighbour without
    a vote, since it has no loss.
    """
    run = whole_number("run", run, at_least=1)
    item = optional_whole_number("item", item, at_least=-(2**63))
    parameters, _, _ = finished_run(
        db, run, "evaluate", called="evaluations", lacks="not all of its voters"
    )
    space_id = _space_id(db, run, space)
    weigh = _weights(db, parameters, weighting)
    rows = db.execute(read_sql(__package__, "evaluation_voters"), (run, space_id, item))
    for item_id, blob, distance_blob in cast(Any, rows):
        if len(blob) % 8 or len(blob) != len(distance_blob):
            raise SqlFunctionError(f"the voters of item {item_id} are damaged")
        ids = np.frombuffer(blob, "<i8").tolist()
        distances = np.frombuffer(distance_blob, "<f8").tolist()
        if not all(map(math.isfinite, distances)):
            raise SqlFunctionError(f"the voters of item {item_id} are damaged")
        ranks = range(1, len(ids) + 1)
        yield from zip(
            [item_id] * len(ids), ids, ranks, distances, weigh(ids, distances), strict=True
        )


Weigh = Callable[[list[int], list[float]], Sequence[float | None]]


def _weights(db: apsw.Connection, parameters: dict[str, Any], weighting: Any) -> Weigh:
    """What gives the weights of an item's voters by their ids and distances, nearest first."""
    there = parameters["weighting"]
    if weighting is not None:
        one_of("weighting", weighting, there)
    if weighting is None:
        return lambda ids, distances: [None] * len(ids)
    if weighting in WEIGHTINGS:
        temperature = float(parameters["temperature"])
        return lambda ids, distances: vote_weights(distances, weighting, temperature)
    component = weighting.partition(":")[2]
    losses = dict(
        cast(
            Any,
            db.execute(
                "select item_id, value from losses where run_id = ? and component = ?"
                " and value is not null",
                (parameters["detect_run"], component),
            ),
        )
    )
    weights = {item: 1 / (1 + loss) for item, loss in losses.items()}
    return lambda ids, distances: [weights.get(i) for i in ids]


def _space_id(db: apsw.Connection, run: int, space: Any) -> int:
    """The space of that name that the run evaluated, or the only one."""
    found = cast(
        Any,
        db.execute(
            "select s.id, s.name from run_inputs i join spaces s on s.id = i.space_id"
            " where i.run_id = ? and i.kind = 'space' order by s.name",
            (run,),
        ).fetchall(),
    )
    named = [space_id for space_id, name in found if space is None or name == space]
    if len(named) == 1:
        return int(named[0])
    names = ", ".join(shown(name) for _, name in found) or "deleted"
    if space is None and len(found) > 1:
        raise SqlFunctionError(f"run {run} evaluated several spaces, name one of them: {names}")
    raise SqlFunctionError(f"space {shown(space)} is not what run {run} evaluated: that is {names}")
