"""Loss distances, in three ways: `python -m benchmarks.loss_distance --weights W --images FOLDER --n 16`

naive: for every pair of images a forward pass and the official criterion. cached: the criterion for
every pair, on forward passes that are there. sparse: as `nearsql loss-distance` does it, on the same,
all that it prepares included. Each image's targets are the detector's own predictions of confidence
0.25 or more. Prints milliseconds a pair, ratios, and by how much the values differ. --matrix M also
measures the whole command on M images: forward passes, all pairs, and writing.
"""

import argparse
import math
import os
import shutil
import tempfile
import time
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeVar

from nearsql.pipeline.devices import share_cores

share_cores()  # as the command does, before torch is imported

import numpy as np
import numpy.typing as npt
import torch

from nearsql.pipeline import images
from nearsql.pipeline.detect.detections import detections
from nearsql.pipeline.detect.forward import Outputs, forward
from nearsql.pipeline.detect.letterbox import Frame, letterbox
from nearsql.pipeline.detect.losses import ImageLosses, image_losses
from nearsql.pipeline.detect.run import detect
from nearsql.pipeline.detect.truth import Target
from nearsql.pipeline.detect.weights import Detector, load_detector
from nearsql.pipeline.ingest import ingest_images
from nearsql.pipeline.loss_distance.image_side import ImageSide, PairLosses
from nearsql.pipeline.loss_distance.run import loss_distance
from nearsql.pipeline.loss_distance.target_side import target_side
from nearsql.udfs import connection

Square = npt.NDArray[np.uint8]
T = TypeVar("T")


class Images:
    """The first n images of a folder, each in its square with what the detector sees in it."""

    def __init__(self, detector: Detector, folder: Path, n: int, size: int) -> None:
        self.squares: list[Square] = []
        self.frames: list[Frame] = []
        self.targets: list[list[Target]] = []
        for path in sorted(folder.iterdir())[:n]:
            square, frame = letterbox(images.rgb(path.read_bytes()), size)
            (found,) = detections(detector, forward(detector, [square]), [frame])
            self.squares.append(square)
            self.frames.append(frame)
            self.targets.append([Target(one.class_index, one.box, one.mask) for one in found])


def naive(detector: Detector, given: Images) -> Iterator[ImageLosses]:
    """Image after image, target after target."""
    for square in given.squares:
        for target, frame in zip(given.targets, given.frames, strict=True):
            yield from image_losses(detector, forward(detector, [square]), [target], [frame])


def cached(detector: Detector, passes: Sequence[Outputs], given: Images) -> Iterator[ImageLosses]:
    """As `naive`."""
    for outputs in passes:
        for target, frame in zip(given.targets, given.frames, strict=True):
            yield from image_losses(detector, outputs, [target], [frame])


def sparse(detector: Detector, passes: Sequence[Outputs], given: Images) -> Iterator[PairLosses]:
    """Image after image."""
    side = target_side(detector, given.targets, given.frames)
    every = torch.arange(len(given.targets), device=detector.device)
    for outputs in passes:
        yield ImageSide(detector, outputs).losses(side, every, detector.components)


def timed(rows: Iterable[T]) -> tuple[float, list[T]]:
    """Seconds, and what came out."""
    start = time.perf_counter()
    found = list(rows)
    return time.perf_counter() - start, found


def differences(
    detector: Detector, official: Sequence[ImageLosses], ours: Sequence[PairLosses]
) -> dict[str, float]:
    """The largest relative difference of each component, over the pairs where it is defined."""
    worst = dict.fromkeys(detector.components, 0.0)
    n = len(ours)
    for place, losses in enumerate(official):
        for name, value in losses.values.items():
            if value is not None:
                got = ours[place // n].values[name][place % n].item()
                worst[name] = max(worst[name], abs(got - value) / abs(value))
    return worst


def matrix(weights: Path, folder: Path, n: int, size: int) -> None:
    """The command itself on n images, in a file of its own."""
    with tempfile.TemporaryDirectory() as temporary:
        chosen = Path(temporary) / "images"
        chosen.mkdir()
        for path in sorted(folder.iterdir())[:n]:
            shutil.copyfile(path, chosen / path.name)
        db = connection.create(Path(temporary) / "matrix.db")
        ingest_images(db, chosen, collection="images")
        detected = detect(db, weights, imgsz=size)
        assert detected.run_id is not None
        start = time.perf_counter()
        result = loss_distance(db, detected.run_id)
        seconds = time.perf_counter() - start
        db.close()
    counts = result.counts
    print(
        f"{counts['images']} x {counts['targets']} images: {seconds:.1f} s,"
        f" {counts['rows']:,} rows, {counts['forward_images']} forward passes"
    )
    print("  " + ", ".join(f"{name} {ms / 1000:.1f} s" for name, ms in result.timings.items()))


def main() -> None:
    """Parses the command line and prints everything."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--weights", type=Path, required=True)
    parser.add_argument("--images", type=Path, required=True)
    parser.add_argument("--n", type=int, default=16)
    parser.add_argument("--imgsz", type=int, default=640)
    parser.add_argument("--matrix", type=int, default=0, metavar="M")
    arguments = parser.parse_args()
    detector = load_detector(arguments.weights)
    given = Images(detector, arguments.images, arguments.n, arguments.imgsz)
    objects = sum(map(len, given.targets))
    n_pairs = len(given.squares) ** 2
    print(
        f"{detector.name}, {len(given.squares)} images of {arguments.imgsz} pixels, {objects}"
        f" predictions, {torch.get_num_threads()} threads, load {os.getloadavg()[0]:.1f}"
    )
    seconds, passes = timed(forward(detector, [square]) for square in given.squares)
    forward_ms = seconds * 1000 / len(given.squares)
    list(sparse(detector, passes[:1], given))  # warms up
    seconds, pairs = timed(sparse(detector, passes, given))
    milliseconds = {"sparse": seconds * 1000 / n_pairs}
    seconds, official = timed(cached(detector, passes, given))
    milliseconds["cached"] = seconds * 1000 / n_pairs
    seconds, official = timed(naive(detector, given))
    milliseconds["naive"] = seconds * 1000 / n_pairs
    for name, ms in reversed(milliseconds.items()):
        print(f"  {name:7} {ms:8.2f} ms a pair, {ms / milliseconds['sparse']:5.1f} x sparse")
    print(f"  a forward pass takes {forward_ms:.0f} ms: one a pair, or one an image")
    worst = differences(detector, official, pairs)
    print("  largest relative difference from naive:", end=" ")
    print(", ".join(f"{name} {value:.0e}" for name, value in worst.items()))
    assert not any(map(math.isnan, worst.values()))
    if arguments.matrix:
        matrix(arguments.weights, arguments.images, arguments.matrix, arguments.imgsz)


if __name__ == "__main__":
    main()
