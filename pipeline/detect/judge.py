"""Images in, everything a detector says of them out: one forward pass an image, and no writing.

A run writes what comes out, a replay hashes it, and a check compares it with what is stored. A `Judge` is
the work of a run, in this process or in others (see `engines`).
"""

import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from nearsql.pipeline import devices, images
from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.detections import Detection, NotFiniteError, detections
from nearsql.pipeline.detect.forward import Outputs, forward, head_inputs
from nearsql.pipeline.detect.ground_truth import GroundTruth, read_truth
from nearsql.pipeline.detect.letterbox import Frame, letterbox
from nearsql.pipeline.detect.losses import ImageLosses, image_losses
from nearsql.pipeline.detect.metrics import ImageMetrics, image_metrics
from nearsql.pipeline.detect.settings import Settings
from nearsql.pipeline.detect.weights import Detector, load_detector
from nearsql.pipeline.engines import Facts, Workers
from nearsql.pipeline.engines.local import LocalWorkers
from nearsql.pipeline.halving import in_halves
from nearsql.pipeline.item_contents import CannotRead, Item, read_items
from nearsql.udfs import dbapi

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class FeatureMap:
    """One layer's output for one image: (channels, height, width) as float16 bytes."""

    shape: tuple[int, ...]
    data: bytes


@dataclass(frozen=True, slots=True)
class Judged:
    """One image, as the detector sees it; or the stage (read, decode, detect) and what went wrong."""

    item_id: int
    uri: str | None
    stage: str = ""
    problem: str | None = None
    features: dict[str, bytes] = field(default_factory=dict)  # layer -> its average, float32
    feature_maps: dict[str, FeatureMap] = field(default_factory=dict)
    detections: Sequence[Detection] = ()
    truth: GroundTruth | None = None  # None: nobody annotated the image
    losses: ImageLosses | None = None
    metrics: ImageMetrics | None = None


@dataclass(frozen=True, slots=True)
class _Prepared:
    item_id: int
    uri: str | None
    square: npt.NDArray[np.uint8] | None = None
    frame: Frame | None = None
    stage: str = ""
    problem: str | None = None


class Judge:
    """A detector with its settings, and the time each part of its work has taken."""

    def __init__(
        self,
        detector: Detector,
        settings: Settings,
        supercategories: dict[str, str],
    ) -> None:
        """supercategories: class name -> supercategory, for flag_supercat."""
        self.detector, self.settings = detector, settings
        self._supercategories = supercategories
        # Milliseconds: waiting for decoded images, the forward passes, and what is made of them.
        self.timings = {"wait": 0.0, "model": 0.0, "measure": 0.0}

    @property
    def facts(self) -> Facts:
        device = str(self.detector.device)
        return Facts(devices.describe(device), devices.computation(device))

    def prepare(self, item: Item) -> _Prepared:
        """The item's image, read, decoded and letterboxed; called in several threads at once."""
        return _prepare(self.settings.imgsz, item)

    def __call__(self, batch: Sequence[_Prepared], besides: dict[int, GroundTruth]) -> list[Judged]:
        """The images judged. besides: the ground truth of those that have any."""
        ready = [item for item in batch if item.problem is None]
        judged = in_halves(partial(self._judge, besides), ready) if ready else []
        done = {one.item_id: one for one in judged}
        return [
            done.get(item.item_id) or Judged(item.item_id, item.uri, item.stage, item.problem)
            for item in batch
        ]

    def judge_items(
        self, db: dbapi.Connection, item_ids: Sequence[int], batch: int
    ) -> Iterator[list[Judged]]:
        """The items judged here, `batch` at a time, in the order of their ids: see `judge_by`."""
        return judge_by(LocalWorkers(self), db, item_ids, batch, self.detector.classes)

    def _judge(self, truths: dict[int, GroundTruth], ready: Sequence[_Prepared]) -> list[Judged]:
        """One forward pass for all of them. Raises torch.OutOfMemoryError when fewer may succeed."""
        with self._timed("model"):
            outputs = forward(
                self.detector,
                [_known(item.square) for item in ready],
                layers=self._extra_layers(),
                autocast=self.settings.autocast is not None,
            )
            averages = {
                layer: np.ascontiguousarray(values.mean((2, 3)).cpu().numpy(), dtype="<f4")
                for layer, values in outputs.features.items()
            }
        with self._timed("measure"):
            judged = []
            for row, item in enumerate(ready):
                features = {layer: values[row] for layer, values in averages.items()}
                judged.append(
                    self._judge_one(item, outputs.item(row), features, truths.get(item.item_id))
                )
        return judged

    def _judge_one(
        self,
        item: _Prepared,
        outputs: Outputs,
        features: dict[str, npt.NDArray[np.float32]],
        truth: GroundTruth | None,
    ) -> Judged:
        """What one image's outputs come to; each image by itself, so that none spoils another's."""
        if not all(np.isfinite(values).all() for values in features.values()):
            problem = "the model gave features that are no finite numbers"
            return Judged(item.item_id, item.uri, "detect", problem)
        settings, frames = self.settings, [_known(item.frame)]
        try:
            (found,) = detections(
                self.detector,
                outputs,
                frames,
                conf=settings.conf,
                iou=settings.iou,
                max_det=settings.max_det,
                multi_label=settings.multi_label,
            )
        except NotFiniteError:
            problem = "the model gave predictions that are no finite numbers"
            return Judged(item.item_id, item.uri, "detect", problem)
        try:
            losses = self._losses(outputs, truth, frames) if truth else None
            metrics = image_metrics(
                found,
                truth.targets if truth else None,
                classes=self.detector.classes,
                supercategories=self._supercategories,
                has_masks=self.detector.task == "segment",
                metrics_conf=settings.metrics_conf,
            )
        except (UserError, ValueError) as error:
            problem = f"its ground truth cannot be used, ingest it again: {error}"
            return Judged(item.item_id, item.uri, "truth", problem)
        return Judged(
            item.item_id,
            item.uri,
            features={layer: values.tobytes() for layer, values in features.items()},
            feature_maps=self._maps(outputs),
            detections=found,
            truth=truth,
            losses=losses,
            metrics=metrics,
        )

    def _losses(self, outputs: Outputs, truth: GroundTruth, frames: Sequence[Frame]) -> ImageLosses:
        """The losses of an image that was annotated."""
        (losses,) = image_losses(self.detector, outputs, [truth.targets], frames)
        if truth.unknown and not truth.targets:
            reasons = dict.fromkeys(losses.reasons, "the model has no class of its objects")
            losses = replace(losses, reasons=reasons)
        return losses

    @property
    def layers(self) -> list[str]:
        """The layers whose averages become spaces: the head's inputs, and those asked for."""
        return list(dict.fromkeys((*head_inputs(self.detector), *self.settings.layers)))

    def _extra_layers(self) -> list[str]:
        asked = dict.fromkeys((*self.settings.layers, *self.settings.feature_maps))
        return [layer for layer in asked if layer not in head_inputs(self.detector)]

    def _maps(self, outputs: Outputs) -> dict[str, FeatureMap]:
        maps = {}
        for layer in self.settings.feature_maps:
            values = outputs.features[layer][0].to(torch.float16).cpu().numpy().astype("<f2")
            maps[layer] = FeatureMap(values.shape, np.ascontiguousarray(values).tobytes())
        return maps

    def _timed(self, step: str) -> "_Timer":
        return _Timer(partial(self._add_time, step))

    def _add_time(self, step: str, milliseconds: float) -> None:
        self.timings[step] += milliseconds


@dataclass(frozen=True, slots=True)
class JudgeTask:
    """How to load a Judge. here: the one that is loaded in this process already, if it is to work here.

    Elsewhere the weights are read from the same path, and must be of the same hash. What a GPU computes in is
    that machine's matter: autocast is left out of the settings, and is among the facts' computation.
    """

    weights: str
    device: str
    settings: Settings
    supercategories: dict[str, str]
    here: Judge | None = None

    def load(self) -> Judge:
        """Raises UserError where the weights are not, or others."""
        if self.here is not None:
            return self.here
        device = devices.pick(self.device)
        detector = load_detector(Path(self.weights), device=device)
        if detector.sha256 != self.settings.checkpoint_sha256:
            raise UserError(f"{self.weights} is another checkpoint there than here")
        settings = replace(self.settings, autocast=devices.computation(device)["autocast"])
        return Judge(detector, settings, self.supercategories)


def judge_by(
    workers: Workers,
    db: dbapi.Connection,
    item_ids: Sequence[int],
    batch: int,
    classes: Sequence[str],
) -> Iterator[list[Judged]]:
    """The items judged by workers of a JudgeTask, `batch` at a time, in the order of their ids.

    item_ids: ascending. classes: the detector's. The database is read in the caller's thread only; no
    transaction stays open.
    """

    def truths(items: Sequence[Item]) -> dict[int, GroundTruth]:
        return read_truth(db, [item.id for item in items], classes)

    return workers.map(read_items(db, item_ids, "image"), batch, besides=truths)


class _Timer:
    """Tells how many milliseconds a block took."""

    def __init__(self, tell: Callable[[float], None]) -> None:
        self._tell = tell

    def __enter__(self) -> None:
        self._started = time.perf_counter()

    def __exit__(self, *_: object) -> None:
        self._tell((time.perf_counter() - self._started) * 1000)


def _prepare(imgsz: int, item: Item) -> _Prepared:
    """Reads, decodes and letterboxes one image; called in several threads at once."""
    try:
        data = item.read()
        assert isinstance(data, bytes)  # only images are detected in
        square, frame = letterbox(images.rgb(data), imgsz)
        return _Prepared(item.id, item.uri, square, frame)
    except CannotRead as error:
        return _Prepared(item.id, item.uri, stage="read", problem=str(error))
    except (images.NotAnImage, images.UnreadableImage) as error:
        return _Prepared(item.id, item.uri, stage="decode", problem=str(error))


def _known(value: T | None) -> T:
    assert value is not None  # an item without a problem has both
    return value
