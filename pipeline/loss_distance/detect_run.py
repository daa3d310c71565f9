"""What a finished detect run says of its images: the predictions that become targets."""

import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.letterbox import Frame
from nearsql.pipeline.detect.truth import Target
from nearsql.pipeline.row_hash import RowHash
from nearsql.udfs import dbapi

DEFAULT_CONF = 0.25


@dataclass(frozen=True, slots=True)
class DetectRun:
    """A finished detect run. item_ids: the images it judged, ascending."""

    id: int
    model: str  # what it is called
    model_id: int
    checkpoint_sha256: str
    weights: str  # where its checkpoint lay
    imgsz: int
    conf: float  # what is less confident was not stored
    item_ids: list[int]


@dataclass(frozen=True, slots=True)
class StoredPredictions:
    """The predictions of each image, as targets, in the order of the run's item ids."""

    targets: list[list[Target]]
    frames: list[Frame]  # how each image lies in its square
    n: int
    sha256: str  # of all that the targets depend on


def read_detect_run(db: dbapi.Connection, run_id: int) -> DetectRun:
    """Raises UserError when the run is not one whose predictions can be targets."""
    row = db.execute(
        "select r.kind, r.status, m.name, r.model_id, r.parameters_json, m.checkpoint_sha256"
        " from runs r left join models m on m.id = r.model_id where r.id = ?",
        (run_id,),
    ).fetchone()
    if row is None or row[0] != "detect":
        found = "there is no such run" if row is None else f"that one is of kind {row[0]!r}"
        ids = [
            str(i)
            for (i,) in db.execute(
                "select id from runs where kind = 'detect' and status = 'finished' order by id"
            )
        ]
        those = f"those are {', '.join(ids)}" if ids else "run `nearsql detect` first"
        raise UserError(f"RUN must be a detect run, not {run_id} ({found}): {those}")
    _, status, model, model_id, parameters, checkpoint_sha256 = row
    if status != "finished":
        raise UserError(
            f"run {run_id} is {status}: `nearsql detect` with the same options goes on with it"
        )
    item_ids = [
        item_id
        for (item_id,) in db.execute(
            "select item_id from image_metrics where run_id = ? order by item_id", (run_id,)
        )
    ]
    if not item_ids:
        raise UserError(f"run {run_id} has judged no images that are still here")
    recorded = json.loads(parameters)
    settings = recorded["settings"]
    return DetectRun(
        run_id,
        model,
        model_id,
        checkpoint_sha256,
        recorded["weights"],
        settings["imgsz"],
        settings["conf"],
        item_ids,
    )


def checked_conf(run: DetectRun, conf: float | None) -> float:
    """The confidence from which predictions are targets. Raises UserError for one below the run's own."""
    if conf is None:
        return max(DEFAULT_CONF, run.conf)
    if not 0 <= conf <= 1:
        raise UserError(f"--conf must be from 0 to 1, not {conf}")
    if conf < run.conf:
        raise UserError(
            f"--conf {conf} asks for predictions that run {run.id} did not store: it has those of"
            f" confidence {run.conf} or more"
        )
    return conf


def read_predictions(db: dbapi.Connection, run: DetectRun, conf: float) -> StoredPredictions:
    """The run's predictions of at least that confidence, image by image."""
    found: dict[int, list[Target]] = {item_id: [] for item_id in run.item_ids}
    frames = {}
    digest = RowHash()
    for item_id, width, height in db.execute(
        "select i.id, i.width, i.height from image_metrics m join items i on i.id = m.item_id"
        " where m.run_id = ? order by i.id",
        (run.id,),
    ):
        frames[item_id] = Frame.fit(width, height, run.imgsz)
        digest.add((item_id, width, height))
    n = 0
    for row in _rows(db, run.id, conf):
        item_id, prediction_id, class_id, x_min, y_min, x_max, y_max, mask = row
        digest.add((item_id, *row[2:]))
        found[item_id].append(
            Target(
                class_id,
                (x_min, y_min, x_max, y_max),
                mask=json.loads(mask) if mask is not None else None,
                id=prediction_id,
            )
        )
        n += 1
    return StoredPredictions(
        [found[item_id] for item_id in run.item_ids],
        [frames[item_id] for item_id in run.item_ids],
        n,
        digest.hexdigest(),
    )


def _rows(db: dbapi.Connection, run_id: int, conf: float) -> Iterator[tuple[Any, ...]]:
    yield from db.execute(
        "select item_id, id, class_id, x_min, y_min, x_max, y_max, mask_json from predictions"
        " where run_id = ? and confidence >= ? order by item_id, id",
        (run_id, conf),
    )
