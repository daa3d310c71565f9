"""A recorded detect run, done again: its images through the same detector, batch by batch as then."""

import json
from collections.abc import Iterator, Sequence

from nearsql.pipeline import devices, images
from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.again import items_again
from nearsql.pipeline.detect.judge import Judge
from nearsql.pipeline.detect.rows import VECTORS_OF_RUN, ItemRows, item_rows
from nearsql.pipeline.detect.settings import Parameters
from nearsql.pipeline.detect.supercategories import of_classes
from nearsql.pipeline.detect.weights import load_detector
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again
from nearsql.udfs import dbapi


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """What comes out when the recorded run's images are judged again, batch by batch as then.

    Images that the run could not use are judged along, since they were in the batches, but have no part in
    the result. Raises CannotReplay when annotations or rows are no longer those of the run.
    """
    parameters = Parameters.from_json(recorded.parameters)
    device = parameters.computation.get("device", "cpu")  # another one gives other last bits
    judge = recorded_judge(db, recorded, device)
    computation = devices.computation(device)
    if computation["autocast"] != judge.settings.autocast:
        raise CannotReplay(
            f"run {recorded.id} was made with autocast {judge.settings.autocast}, and on {device} it is"
            f" {computation['autocast']}"
        )
    _refuse_lost_spaces(db, recorded, judge.layers)
    _refuse_changed_truth(db, recorded.id)
    _refuse_lost_rows(db, recorded.id)
    judged = {
        item_id
        for (item_id,) in db.execute(
            "select item_id from image_metrics where run_id = ?", (recorded.id,)
        )
    }

    def again() -> Iterator[ItemRows]:
        with images.quiet_decoders():
            for batch in judge.judge_items(db, _tried_by(db, recorded.id), parameters.batch):
                for one in batch:
                    if one.item_id not in judged:
                        continue
                    if one.problem is not None:
                        raise CannotReplay(f"item {one.item_id} ({one.uri}): {one.problem}")
                    yield item_rows(one, judge.detector.classes, judge.detector.components)

    return items_again(
        db,
        recorded.id,
        again(),
        device=devices.describe(device),
        computation=computation,
    )


def recorded_judge(db: dbapi.Connection, recorded: RecordedRun, device: str = "auto") -> Judge:
    """The detector of a recorded run, loaded again from where it was. Raises CannotReplay."""
    parameters = Parameters.from_json(recorded.parameters)
    settings = parameters.settings
    try:
        detector = load_detector(parameters.weights, device=devices.pick(device))
    except UserError as error:
        raise CannotReplay(f"run {recorded.id}: {error}") from error
    if detector.sha256 != settings.checkpoint_sha256:
        raise CannotReplay(
            f"run {recorded.id} was made with another checkpoint than now lies at {parameters.weights}"
        )
    return Judge(
        detector, settings, of_classes(db, settings.supercategories, parameters.collection)
    )


def _tried_by(db: dbapi.Connection, run_id: int) -> list[int]:
    """The items that a run has judged, or could not, in order."""
    return [
        item_id
        for (item_id,) in db.execute(
            "select item_id from image_metrics where run_id = :run union"
            " select item_id from item_errors where run_id = :run and item_id is not null order by 1",
            {"run": run_id},
        )
    ]


def _refuse_changed_truth(db: dbapi.Connection, run_id: int) -> None:
    (changed,) = db.execute(
        "select count(*) from image_metrics m left join annotated_items t on t.item_id = m.item_id"
        " where m.run_id = ? and m.truth_sha256 is not t.truth_sha256",
        (run_id,),
    ).fetchone()
    if changed:
        raise CannotReplay(
            f"run {run_id} was measured against annotations of {changed:,} images that have changed"
        )


def _refuse_lost_spaces(db: dbapi.Connection, recorded: RecordedRun, layers: Sequence[str]) -> None:
    """Each layer's averages are in a space of the model, whoever wrote them."""
    names = [
        name
        for (name,) in db.execute(
            "select name from spaces where model_id is ? and kind = 'feature'",
            (recorded.model_id,),
        )
    ]
    for layer in layers:
        if not any(name.endswith(f"/gap/{layer}") for name in names):
            raise CannotReplay(
                f"run {recorded.id} averaged the layer {layer}, and there is no space MODEL/gap/{layer}"
            )


def _refuse_lost_rows(db: dbapi.Connection, run_id: int) -> None:
    """Items and spaces that were deleted took rows with them, which can no more be reproduced."""
    (counts,) = db.execute("select counts_json from runs where id = ?", (run_id,)).fetchone()
    then = json.loads(counts)
    for key, sql in (
        ("images", "select count(*) from image_metrics where run_id = ?"),
        ("vectors", VECTORS_OF_RUN),
    ):
        (now,) = db.execute(sql, (run_id,)).fetchone()
        if now != then.get(key, now):
            raise CannotReplay(
                f"run {run_id} wrote {then[key]:,} {key}, and {now:,} are left:"
                " the others have been deleted"
            )
