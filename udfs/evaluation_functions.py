"""Who voted in an evaluation: evaluation_neighbors."""

import math
from collections.abc import Iterator
from typing import Any, cast

import apsw
import numpy as np

from nearsql.udfs.arguments import optional_whole_number, shown, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.run_members import finished_run


@sql_function(
    columns=("item_id", "neighbor_id", "rank", "distance"),
    example=(
        "select neighbor_id, rank, round(distance, 4) as distance\n"
        "from evaluation_neighbors((select min(id) from runs where kind = 'evaluate'), 'digits/pixels', 1)\n"
        "limit 3"
    ),
    estimated_rows=100_000,
)
def evaluation_neighbors(
    db: apsw.Connection, run: int, space: str | None = None, item: int | None = None
) -> Iterator[tuple[int, int, int, float]]:
    """The items that vote for each item in an evaluation (`nearsql evaluate`), nearest first.

    They are its nearest items of other folds, as many as the largest k; those of rank 1 to k vote for k:
    `vote(label, distance, 'uniform')` over them is what `cv_predictions` has. `space` is one that the run
    evaluated, and may be left out where there is only one; `item` asks for one item's voters.
    """
    run = whole_number("run", run, at_least=1)
    item = optional_whole_number("item", item, at_least=-(2**63))
    finished_run(db, run, "evaluate", called="evaluations", lacks="not all of its voters")
    rows = db.execute(
        "select item_id, neighbor_ids, distances from cv_neighbors"
        " where run_id = ? and space_id = ? and (? is null or item_id = ?) order by item_id",
        (run, _space_id(db, run, space), item, item),
    )
    for item_id, ids, distances in cast(Any, rows):
        if len(ids) % 8 or len(ids) != len(distances):
            raise SqlFunctionError(f"the voters of item {item_id} are damaged")
        for rank, (neighbor, distance) in enumerate(
            zip(
                np.frombuffer(ids, "<i8").tolist(),
                np.frombuffer(distances, "<f8").tolist(),
                strict=True,
            ),
            1,
        ):
            if not math.isfinite(distance):
                raise SqlFunctionError(f"the voters of item {item_id} are damaged")
            yield item_id, neighbor, rank, distance


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
