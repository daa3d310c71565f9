"""Neighbours by a stored loss distance: knn_loss."""

from collections.abc import Iterator
from typing import Any, cast

import apsw

from nearsql.udfs.arguments import one_of, shown, text, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.sql_files import read_sql

DIRECTIONS = ("image", "target", "mean", "max", "min")

_OF_A_TARGET = "select {} from loss_distances where run_id = ? and target_item_id = ?"
_OF_AN_IMAGE = "select {} from loss_distances where run_id = ? and image_item_id = ?"


@sql_function(
    columns=("id", "distance", "rank"),
    example="select id, round(distance, 4) as distance, rank from knn_loss(6, 'cls', 1, 3)",
    estimated_rows=10,
)
def knn_loss(
    db: apsw.Connection, run: int, component: str, item: int, k: int = 10, direction: str = "image"
) -> Iterator[tuple[int, float, int]]:
    """The k items at the smallest loss distance from an item, in a finished run of `nearsql loss-distance`.

    A loss distance has a direction: it is a component (box, cls, dfl, seg, ...) of the detector's loss
    on an image when the detections in another, the target, are taken as the truth. `direction` says
    what is ranked: 'image' (the default) takes the item as the target, and ranks the images that fit
    its detections best; 'target' takes it as the image, and ranks the targets that it fits best. 'mean',
    'max' and 'min' join both directions to one symmetric distance.

    Pairs whose distance is undefined or was not computed are left out; of a symmetric distance, those
    where either direction is. Equal distances come in the order of ids, and an item is not its own
    neighbour, although the distance to itself is stored and not 0.
    """
    count = whole_number("k", k, at_least=1)
    values = {
        "run": _finished_run(db, run),
        "component": text("component", component),
        "item": whole_number("item", item, at_least=1),
        "k": count,
        "direction": one_of("direction", direction, DIRECTIONS),
    }
    sql = read_sql(__package__, "knn_loss")
    found = cast(Any, db.execute(sql, values).fetchall())
    if not found:
        _check_there_are_rows(db, values)
    for rank, (item_id, distance) in enumerate(found, start=1):
        yield item_id, distance, rank


def _finished_run(db: apsw.Connection, run: Any) -> int:
    """The id of a run of loss distances that is complete. Raises SqlFunctionError."""
    run_id = whole_number("run", run, at_least=1)
    row = db.execute("select kind, status from runs where id = ?", (run_id,)).fetchone()
    if row is None or row[0] != "loss-distance":
        what = "there is no such run" if row is None else f"that one is of kind {shown(row[0])}"
        ids = db.execute(
            "select id from runs where kind = 'loss-distance' and status = 'finished'"
            " order by id desc limit 10"
        )
        known = ", ".join(str(i) for (i,) in ids)
        those = f"those are {known}" if known else "there are none yet: run `nearsql loss-distance`"
        raise SqlFunctionError(
            f"run must be a run of loss distances, not {run_id} ({what}): {those}"
        )
    if row[1] != "finished":
        raise SqlFunctionError(
            f"run {run_id} is {row[1]}, and a part of its distances is missing: `nearsql loss-distance`"
            " with the same options goes on with it"
        )
    return run_id


def _check_there_are_rows(db: apsw.Connection, values: dict[str, Any]) -> None:
    """Tells an item or a component that the run does not have from one without any defined distance."""
    run_id, item, direction = values["run"], values["item"], values["direction"]
    sides = {"image": [_OF_A_TARGET], "target": [_OF_AN_IMAGE]}
    for side in sides.get(direction, [_OF_A_TARGET, _OF_AN_IMAGE]):
        names = db.execute(side.format("distinct component"), (run_id, item)).fetchall()
        components = sorted(str(name) for (name,) in names)
        if not components:
            role = "target" if side == _OF_A_TARGET else "image"
            raise SqlFunctionError(f"item {item} is not one of the {role}s of run {run_id}")
        if values["component"] not in components:
            raise SqlFunctionError(
                f"run {run_id} has no component {shown(values['component'])}: it has "
                + ", ".join(components)
            )
