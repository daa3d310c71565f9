"""What a loss-distance run works on: a detect run, its detector, the targets and the pairs; and images."""

import os
import time
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from nearsql.pipeline import devices, images
from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.letterbox import letterbox
from nearsql.pipeline.detect.weights import Detector, load_detector
from nearsql.pipeline.engines import Facts, Workers
from nearsql.pipeline.item_contents import CannotRead, Item, read_items
from nearsql.pipeline.loss_distance.detect_run import (
    DetectRun,
    StoredPredictions,
    read_predictions,
)
from nearsql.pipeline.loss_distance.pairs import Choice, Pairs, choose_pairs
from nearsql.pipeline.loss_distance.rows import Evaluator, Row
from nearsql.pipeline.runs import RunInput, run_input, space_input
from nearsql.udfs import dbapi


@dataclass(frozen=True, slots=True)
class Work:
    """All that decides the rows. parameters: what the run records of it."""

    source: DetectRun
    detector: Detector
    components: tuple[str, ...]
    pairs: Pairs
    predictions: StoredPredictions
    parameters: dict[str, Any]

    def evaluator(self) -> Evaluator:
        return Evaluator(
            self.detector,
            self.predictions,
            self.source.item_ids,
            self.pairs.targets,
            self.components,
        )

    def task(self, device: str, is_here: bool) -> "HoldTask":
        """The same as work to be done here, or by others on such a device."""
        return HoldTask(
            self.source,
            os.path.abspath(self.detector.path),
            device,
            self.predictions,
            self.pairs.targets,
            self.components,
            HoldWork(self.evaluator(), self.source.imgsz) if is_here else None,
        )

    def targets_of(self, item_id: int) -> npt.NDArray[np.int64]:
        """The numbers of the targets that an image is held against."""
        return self.pairs.of_image[bisect_left(self.source.item_ids, item_id)]


def prepare_work(
    db: dbapi.Connection,
    source: DetectRun,
    detector: Detector,
    components: tuple[str, ...],
    choice: Choice,
    conf: float,
) -> Work:
    pairs = choose_pairs(db, choice, source.item_ids)
    predictions = read_predictions(db, source, conf)
    parameters = {
        "run": source.id,
        **choice.as_json(),
        "components": list(components),
        "conf": conf,
        "imgsz": source.imgsz,
        "checkpoint_sha256": detector.sha256,
        # So that an interrupted run goes on, and a finished one is found, only where nothing changed.
        "predictions_sha256": predictions.sha256,
        "pairs_sha256": pairs.sha256(),
    }
    return Work(source, detector, components, pairs, predictions, parameters)


def run_inputs(db: dbapi.Connection, work: Work, choice: Choice) -> list[RunInput]:
    inputs = [
        replace(
            run_input(db, work.source.id),
            rows=work.predictions.n,
            sha256=work.predictions.sha256,
        ),
        RunInput("file", str(work.detector.path), sha256=work.detector.sha256),
    ]
    if choice.space is not None:
        inputs.append(space_input(db, choice.space))
    return inputs


def load_recorded(source: DetectRun, weights: str | os.PathLike[str], device: str) -> Detector:
    """The detector of the detect run. Raises UserError when the file is another."""
    detector = load_detector(weights, device=device)
    if detector.sha256 != source.checkpoint_sha256:
        raise UserError(
            f"{weights} is not the checkpoint that run {source.id} was made with (SHA-256"
            f" {detector.sha256[:12]}..., not {source.checkpoint_sha256[:12]}...): say where that one"
            " lies with --weights"
        )
    return detector


def checked_components(detector: Detector, components: Sequence[str] | None) -> tuple[str, ...]:
    """The components, in the detector's order. Raises UserError for one that it does not have."""
    asked = detector.components if components is None else components
    for component in asked:
        if component not in detector.components:
            raise UserError(
                f"{detector.name} has no loss component {component!r}: it has"
                f" {', '.join(detector.components)}"
            )
    if not asked:
        raise UserError(f"--components names none of {', '.join(detector.components)}")
    return tuple(component for component in detector.components if component in asked)


@dataclass(frozen=True, slots=True)
class Prepared:
    """An image in its square; or the stage (read, decode) and what went wrong."""

    item_id: int
    uri: str | None
    square: npt.NDArray[np.uint8] | None = None
    stage: str = ""
    problem: str = ""


@dataclass(frozen=True, slots=True)
class Held:
    """An image held against its targets: its rows; or the stage (read, decode) and what went wrong."""

    item_id: int
    uri: str | None
    rows: list[Row]
    stage: str = ""
    problem: str = ""


class HoldWork:
    """A detector and its targets at work: of each image, its distances to those it is held against."""

    def __init__(self, evaluator: Evaluator, imgsz: int) -> None:
        self._evaluator, self._imgsz = evaluator, imgsz
        self.timings = {"wait": 0.0, "forward": 0.0, "pairs": 0.0}

    @property
    def facts(self) -> Facts:
        device = str(self._evaluator.detector.device)
        return Facts(devices.describe(device), devices.computation(device, uses_autocast=False))

    def prepare(self, item: Item) -> Prepared:
        """The image, read, decoded and letterboxed; called in several threads at once."""
        return _prepare(self._imgsz, item)

    def __call__(
        self, batch: Sequence[Prepared], besides: Sequence[npt.NDArray[np.int64]]
    ) -> list[Held]:
        """A forward pass an image. besides: of each, the numbers of its targets."""
        return [self._held(one, targets) for one, targets in zip(batch, besides, strict=True)]

    def _held(self, one: Prepared, targets: npt.NDArray[np.int64]) -> Held:
        if one.square is None:
            return Held(one.item_id, one.uri, [], one.stage, one.problem)
        started = time.perf_counter()
        outputs = self._evaluator.forward(one.square)
        passed = time.perf_counter()
        rows = self._evaluator.rows(outputs, targets)
        self.timings["forward"] += (passed - started) * 1000
        self.timings["pairs"] += (time.perf_counter() - passed) * 1000
        return Held(one.item_id, one.uri, rows)


@dataclass(frozen=True, slots=True)
class HoldTask:
    """How to load a HoldWork. here: the one that is loaded in this process already, if it is to work here.

    Elsewhere the weights are read from the same path.
    """

    source: DetectRun
    weights: str
    device: str
    predictions: StoredPredictions
    targets: npt.NDArray[np.int64]
    components: tuple[str, ...]
    here: HoldWork | None = None

    def load(self) -> HoldWork:
        """Raises UserError where the weights are not, or others."""
        if self.here is not None:
            return self.here
        detector = load_recorded(self.source, self.weights, devices.pick(self.device))
        evaluator = Evaluator(
            detector, self.predictions, self.source.item_ids, self.targets, self.components
        )
        return HoldWork(evaluator, self.source.imgsz)


def held_items(
    workers: Workers, db: dbapi.Connection, work: Work, item_ids: Sequence[int]
) -> Iterator[Held]:
    """The images held against their targets by workers of a HoldTask, one by one in the order of the ids."""

    def targets(items: Sequence[Item]) -> list[npt.NDArray[np.int64]]:
        return [work.targets_of(item.id) for item in items]

    for (held,) in workers.map(read_items(db, item_ids, "image"), 1, besides=targets):
        yield held


def _prepare(imgsz: int, item: Item) -> Prepared:
    try:
        data = item.read()
        assert isinstance(data, bytes)  # only images are detected in
        square, _ = letterbox(images.rgb(data), imgsz)
    except CannotRead as error:
        return Prepared(item.id, item.uri, stage="read", problem=str(error))
    except (images.NotAnImage, images.UnreadableImage) as error:
        return Prepared(item.id, item.uri, stage="decode", problem=str(error))
    return Prepared(item.id, item.uri, square)
