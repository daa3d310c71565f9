"""What is judged: the images of a detector's runs, as they were measured against the truth they still have."""

import hashlib
import json
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from nearsql.pipeline.console import UserError
from nearsql.pipeline.failures.mistakes import Object, Prediction
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

# What says how well the detections of an image meet its objects; more is better.
METRICS = ("mean_iou_gt", "mean_iou", "hit_freq", "dice_score", "mean_conf")


@dataclass(frozen=True, slots=True)
class Detector:
    """A model, and its runs of one collection of settings. classes: by number; () if it tells none.

    metrics_conf: predictions less confident are stored, perhaps, but are no detections.
    """

    model: str
    runs: tuple[int, ...]
    classes: tuple[str, ...]
    metrics_conf: float
    settings: str | None  # JSON


@dataclass(frozen=True, slots=True)
class Image:
    """An image that a run judged. metrics: by name; None is undefined."""

    item_id: int
    run_id: int
    truth_sha256: str
    objects: int
    found: int
    missed: int
    false_alarms: int
    metrics: dict[str, float | None]


@dataclass(frozen=True, slots=True)
class Judged:
    """The images to be looked at, ascending by item; and how many have another truth by now."""

    images: list[Image]
    left_out: int

    @property
    def truth_sha256(self) -> str:
        """The hash of all that was judged: which images, by which run, against which truth."""
        lines = (f"{image.item_id} {image.run_id} {image.truth_sha256}\n" for image in self.images)
        return hashlib.sha256("".join(lines).encode()).hexdigest()


def find_detector(db: dbapi.Connection, run: int | None) -> Detector:
    """The detector of a run, or of the newest that judged images by their ground truth.

    Raises LookupError for a run that is not there, UserError for one that is no finished detection, and when
    there is none.
    """
    if run is None:
        run = _newest(db)
    row = db.execute(
        "select r.kind, r.status, m.name, m.parameters_json,"
        " json_extract(r.parameters_json, '$.settings'),"
        " json_extract(r.parameters_json, '$.settings.metrics_conf')"
        " from runs r left join models m on m.id = r.model_id where r.id = ?",
        (run,),
    ).fetchone()
    if row is None:
        raise LookupError(f"there is no run {run} in this file: see `nearsql runs`")
    kind, status, model, parameters, settings, metrics_conf = row
    if kind != "detect" or model is None:
        raise UserError(
            f"run {run} is of kind {kind!r}: only what `nearsql detect` did can fail so"
        )
    if status != "finished":
        raise UserError(f"run {run} is {status}: `nearsql detect` goes on with it")
    alike = tuple(i for (i,) in db.execute(read_sql(__package__, "runs_alike"), {"run": run}))
    conf = metrics_conf if isinstance(metrics_conf, int | float) else 0.0
    return Detector(model, alike, _classes(parameters), float(conf), settings)


def detector_of_runs(db: dbapi.Connection, runs: Sequence[int]) -> Detector:
    """As find_detector, of these runs alone. Raises LookupError and UserError."""
    if not runs:
        raise LookupError("it names no run of a detector")
    found = find_detector(db, runs[0])
    return Detector(found.model, tuple(runs), found.classes, found.metrics_conf, found.settings)


def judged_images(db: dbapi.Connection, runs: Sequence[int]) -> Judged:
    """The images with ground truth that these runs judged, each by its latest one."""
    images, left_out = [], 0
    sql = read_sql(__package__, "judged_images")
    for item, run, sha256, n_gt, tp, fn, fp, *metrics, is_current in db.execute(
        sql, {"runs": json.dumps(list(runs))}
    ):
        if not is_current:
            left_out += 1
            continue
        names = ("mean_iou", "mean_iou_gt", "mean_conf", "hit_freq", "dice_score")
        by_name = dict(zip(names, metrics, strict=True))
        images.append(Image(item, run, sha256 or "", n_gt, tp, fn, fp, by_name))
    return Judged(images, left_out)


def mistakes_of_images(
    db: dbapi.Connection, detector: Detector, images: Sequence[Image]
) -> Iterator[tuple[Image, list[Object], list[Prediction]]]:
    """The objects and predictions of each image, with classes as the model calls them.

    Objects of classes that the model does not have are left out, as they are of its metrics.
    """
    for image in images:
        yield image, _objects(db, detector, image), _predictions(db, detector, image)


def _objects(db: dbapi.Connection, detector: Detector, image: Image) -> list[Object]:
    values = {"run": image.run_id, "item": image.item_id}
    found = []
    for number, class_id, class_name, *box, area, is_found, is_crowd in db.execute(
        read_sql(__package__, "objects_of_image"), values
    ):
        name = _name(detector, class_id, class_name)
        if detector.classes and name not in detector.classes:
            continue
        corners = (box[0], box[1], box[2], box[3])
        found.append(Object(number, name, corners, area, bool(is_found), bool(is_crowd)))
    return found


def _predictions(db: dbapi.Connection, detector: Detector, image: Image) -> list[Prediction]:
    values = {"run": image.run_id, "item": image.item_id}
    return [
        Prediction(
            number,
            _name(detector, class_id, class_name),
            confidence,
            (box[0], box[1], box[2], box[3]),
            confidence >= detector.metrics_conf,
            bool(is_right),
        )
        for number, class_id, class_name, confidence, *box, is_right in db.execute(
            read_sql(__package__, "predictions_of_image"), values
        )
    ]


def _name(detector: Detector, class_id: int, class_name: str | None) -> str:
    if class_name is not None:
        return class_name
    return detector.classes[class_id] if class_id < len(detector.classes) else f"number {class_id}"


def _classes(parameters: str) -> tuple[str, ...]:
    """The names that a model's row tells, which anybody may have written."""
    told = json.loads(parameters)
    names = told.get("classes") if isinstance(told, dict) else None
    if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
        return ()
    return tuple(names)


def _newest(db: dbapi.Connection) -> int:
    row = db.execute(
        "select max(r.id) from runs r where r.kind = 'detect' and r.status = 'finished'"
        " and exists (select 1 from image_metrics m where m.run_id = r.id and m.n_gt is not null)"
    ).fetchone()
    if row[0] is None:
        raise UserError(
            "no detector has judged images by their ground truth in this file: give them annotations"
            " (`nearsql ingest --annotations`), then run `nearsql detect`"
        )
    return int(row[0])
