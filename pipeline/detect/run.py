"""The detect run: every image of a collection through a detector, and what it says into the tables.

Work to do is a query: the images that no run like this one has judged by their present ground truth, or
that lack a vector. Each batch is one transaction, so that a killed run loses at most the batch under
way; run again, it goes on under the same id, and judges again what has changed meanwhile.
"""

import json
import os
import time
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from nearsql.pipeline import devices, images
from nearsql.pipeline.console import UserError, progress, say
from nearsql.pipeline.detect import metric_space
from nearsql.pipeline.detect.forward import find_layers
from nearsql.pipeline.detect.judge import Judge, Judged, JudgeTask, judge_by
from nearsql.pipeline.detect.model_and_spaces import feature_spaces, model_name, save_detector
from nearsql.pipeline.detect.rows import (
    VECTORS_OF_RUN,
    forget,
    item_rows,
    stored_sha256,
    write_rows,
)
from nearsql.pipeline.detect.settings import METRICS_CONF, Parameters, Settings
from nearsql.pipeline.detect.supercategories import of_classes, read_mapping
from nearsql.pipeline.detect.weights import Detector, load_detector
from nearsql.pipeline.engines import Engine, Workers
from nearsql.pipeline.engines.local import LocalEngine
from nearsql.pipeline.estimate import duration_in_words, size_in_words
from nearsql.pipeline.item_contents import Items
from nearsql.pipeline.runs import Run, RunInput, immediate, run
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

PACKAGES = ("torch", "torchvision", "ultralytics", "pillow", "opencv-python", "pycocotools")

# Shorter work needs no forecast.
_SECONDS_WORTH_SAYING = 5.0

# What one image takes in the file besides its vectors: ten detections with masks, losses, metrics.
_BYTES_AN_IMAGE = 12_000


@dataclass(frozen=True, slots=True)
class DetectResult:
    """How a detect run went. run_id is None when there was nothing to do: then no run was made.

    counts: images, predictions, errors of this run; already: images that an earlier
    run like it has judged. timings: milliseconds, by step.
    """

    run_id: int | None
    model: str
    spaces: Sequence[str]
    counts: dict[str, int | float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)


def detect(
    db: dbapi.Connection,
    weights: str | os.PathLike[str],
    *,
    collection: str | None = None,
    name: str | None = None,
    imgsz: int = 640,
    conf: float = 0.25,
    iou: float = 0.7,
    max_det: int = 300,
    multi_label: bool = False,
    metrics_conf: float | None = None,
    layers: Sequence[str] = (),
    feature_maps: Sequence[str] = (),
    supercategories: str | os.PathLike[str] | None = None,
    batch: int = 8,
    device: str = "auto",
    engine: Engine | None = None,
    quiet: bool = True,
) -> DetectResult:
    """Runs a YOLO detector over images and stores all it says of them, from one forward pass each.

    weights: path of a .pt checkpoint of a detect or segment model. collection: default, all images.
    name: what the model is called in the database; default, the checkpoint's name. imgsz, conf, iou,
    max_det, batch: as ultralytics names them. metrics_conf: predictions below it do not count as
    detections; default, 0.25 or conf if that is higher. layers: further layers whose spatial averages
    become spaces. feature_maps: layers whose whole maps are stored. supercategories: a JSON file of
    {class: supercategory}; default, those of the collection's classes, and COCO's. engine: where it is
    computed, which makes no difference to the rows; default, here.

    An image that cannot be read or decoded becomes an `item_errors` row. Raises UserError when the
    weights or an option do not do, or there are no images.
    """
    if batch < 1:
        raise UserError(f"--batch must be at least 1, not {batch}")
    items = Items(db, "image", collection)
    items.require("a detector")
    engine = engine or LocalEngine()
    # Of work that is done elsewhere only the checkpoint is looked at here.
    detector = load_detector(weights, device=devices.pick(device) if engine.is_here else "cpu")
    settings = Settings(
        checkpoint_sha256=detector.sha256,
        imgsz=imgsz,
        conf=conf,
        iou=iou,
        max_det=max_det,
        multi_label=multi_label,
        metrics_conf=max(conf, METRICS_CONF) if metrics_conf is None else metrics_conf,
        layers=tuple(dict.fromkeys(layers)),
        feature_maps=tuple(dict.fromkeys(feature_maps)),
        supercategories=read_mapping(supercategories) if supercategories else None,
        autocast=devices.computation(str(detector.device))["autocast"],
    )
    settings.check(max(detector.strides))
    find_layers(detector, [*settings.layers, *settings.feature_maps])
    judge = Judge(detector, settings, of_classes(db, settings.supercategories, collection))
    task = JudgeTask(
        os.path.abspath(detector.path),
        device,
        settings,
        of_classes(db, settings.supercategories, collection),
        judge if engine.is_here else None,
    )
    with engine.workers(task) as workers:
        settings = replace(settings, autocast=workers.facts.computation["autocast"])
        judge.settings = settings
        parameters = Parameters(
            weights=str(detector.path),
            model=model_name(name or detector.name),
            collection=collection,
            batch=batch,
            settings=settings,
            computation=workers.facts.computation,
        )
        return _detect(db, items, judge, workers, parameters, quiet)


def _detect(
    db: dbapi.Connection,
    items: Items,
    judge: Judge,
    workers: Workers,
    parameters: Parameters,
    quiet: bool,
) -> DetectResult:
    """The run itself. judge: as it is here; the workers may be elsewhere."""
    detector, settings, name = judge.detector, parameters.settings, parameters.model
    collection = parameters.collection
    model_id = save_detector(db, detector, name)
    spaces = [f"{name}/gap/{layer}" for layer in judge.layers]
    item_ids = _items_to_do(db, model_id, collection, settings, spaces)
    already = len(items) - len(item_ids)
    if not item_ids:
        return DetectResult(None, name, spaces, {"already": already})

    inputs = [RunInput("collection", one, rows=n) for one, n in items.by_collection().items()]
    inputs.append(RunInput("file", str(detector.path), sha256=detector.sha256))
    with run(
        db,
        "detect",
        parameters=parameters.as_json(),
        model_id=model_id,
        inputs=inputs,
        packages=PACKAGES,
        device=workers.facts.device,
        resume=True,
    ) as current:
        if current.is_resumed:
            item_ids = _items_to_do(db, model_id, collection, settings, spaces, current.id)
            forget(current, item_ids)
        with images.quiet_decoders():
            _fill(current, judge, workers, item_ids, parameters, model_id, quiet)
        with current.timed("metric_space"):
            in_space = metric_space.refresh(current, name, detector.components, settings.as_text())
        if in_space:
            spaces.append(f"{name}/metrics")
        _count(current)
        current.counts["threads"] = workers.facts.computation["threads"]
        if already:
            current.counts["already"] = already
        workers.record(current)
        current.result_sha256 = stored_sha256(db, current.id)
    return DetectResult(current.id, name, spaces, current.counts, current.timings)


def _items_to_do(
    db: dbapi.Connection,
    model_id: int,
    collection: str | None,
    settings: Settings,
    spaces: Sequence[str],
    run_id: int | None = None,
) -> list[int]:
    """The ids of the images to judge. spaces: where each needs a vector. run_id: of a run to go on with."""
    sql = read_sql(__package__, "items_to_detect")
    values = {
        "model_id": model_id,
        "collection": collection,
        "settings": settings.as_text(),
        "spaces": json.dumps(spaces),
        "run_id": run_id,
    }
    return [item_id for (item_id,) in db.execute(sql, values)]


def _fill(
    current: Run,
    judge: Judge,
    workers: Workers,
    item_ids: list[int],
    parameters: Parameters,
    model_id: int,
    quiet: bool,
) -> None:
    """Judges the items and writes each batch in a transaction of its own."""
    if item_ids and not quiet:
        _say_estimate(judge, len(item_ids), workers.facts.computation["device"])
    started = time.perf_counter()
    spaces: dict[str, int] = {}
    said = False
    try:
        with progress("detecting", len(item_ids), quiet=quiet) as bar:
            n_done = 0
            batches = judge_by(
                workers, current.db, item_ids, parameters.batch, judge.detector.classes
            )
            for batch in batches:
                if not spaces:
                    spaces = _spaces_for(current, judge, batch, parameters.model, model_id)
                _write(current, judge.detector, batch, spaces)
                bar.advance(len(batch))
                n_done += len(batch)
                left = (time.perf_counter() - started) / n_done * (len(item_ids) - n_done)
                if not said and not quiet and left > _SECONDS_WORTH_SAYING:
                    say(f"that takes about {duration_in_words(left)} here")
                said = True
    finally:
        for step, milliseconds in workers.timings.items():
            current.timings[step] = round(current.timings.get(step, 0.0) + milliseconds, 3)


def _spaces_for(
    current: Run, judge: Judge, batch: list[Judged], model: str, model_id: int
) -> dict[str, int]:
    """The spaces of the layers that become spaces, once an image has shown how wide they are."""
    for one in batch:
        if one.problem is None:
            widths = {layer: len(one.features[layer]) // 4 for layer in judge.layers}
            return feature_spaces(current, model, model_id, widths, judge.settings)
    return {}


def _write(current: Run, detector: Detector, batch: list[Judged], spaces: dict[str, int]) -> None:
    with current.timed("write"), immediate(current.db):
        good = []
        truths = _present_truths(current.db, [one.item_id for one in batch])
        for one in batch:
            if one.item_id not in truths:
                continue  # deleted meanwhile
            if one.problem is not None:
                current.item_error(one.stage, one.problem, item_id=one.item_id, uri=one.uri)
                continue
            if truths[one.item_id] != (one.truth.sha256 if one.truth else None):
                current.item_error(
                    "truth",
                    "its annotations changed while it was judged: run again",
                    item_id=one.item_id,
                    uri=one.uri,
                )
                continue
            good.append(item_rows(one, detector.classes, detector.components))
            if one.truth and one.truth.unknown:
                names = ", ".join(dict.fromkeys(one.truth.unknown))
                current.item_error(
                    "truth",
                    f"{len(one.truth.unknown)} of its objects are of classes that the model does not"
                    f" have ({names}): they are left out of its losses and metrics",
                    item_id=one.item_id,
                    uri=one.uri,
                )
        write_rows(current, good, spaces)


def _present_truths(db: dbapi.Connection, item_ids: Sequence[int]) -> dict[int, str | None]:
    """The hash of the ground truth of each of the items that are still there; None without one."""
    return dict(
        db.execute(
            "select i.id, t.truth_sha256 from items i left join annotated_items t on t.item_id = i.id"
            " where i.id in (select value from json_each(?))",
            (json.dumps(item_ids),),
        ).fetchall()
    )


def _say_estimate(judge: Judge, n_items: int, device: str) -> None:
    """What the run will take in the file and in memory."""
    settings = judge.settings
    maps = 0
    if settings.feature_maps:
        # P3 has the most cells; the channels of the others grow as the cells shrink by four.
        maps = len(settings.feature_maps) * 2 * 64 * (settings.imgsz // 8) ** 2
    file_bytes = n_items * (_BYTES_AN_IMAGE + maps)
    in_flight = 4 * min(8, os.cpu_count() or 1) * 3 * settings.imgsz**2
    weights = sum(p.numel() * p.element_size() for p in judge.detector.network.parameters())
    say(
        f"detecting in {n_items:,} images on {device}: about"
        f" {size_in_words(file_bytes)} in the file, {size_in_words(weights + in_flight)} of memory"
        " beside the libraries"
    )


def _count(current: Run) -> None:
    """The run's counts, asked of the file, so that they hold for all its processes together."""
    for key, sql in (
        ("images", "select count(*) from image_metrics where run_id = ?"),
        ("annotated", "select count(*) from image_metrics where run_id = ? and n_gt is not null"),
        ("predictions", "select count(*) from predictions where run_id = ?"),
        ("errors", "select count(*) from item_errors where run_id = ?"),
        ("vectors", VECTORS_OF_RUN),
    ):
        (current.counts[key],) = current.db.execute(sql, (current.id,)).fetchone()
