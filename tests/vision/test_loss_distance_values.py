"""The sparse loss of every pair is the official criterion's, one pair at a time."""

from functools import cache
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from detectors import CLASSES, FAMILIES, assets, random_image, saved_detector
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.pipeline import images
from nearsql.pipeline.detect.detections import detections
from nearsql.pipeline.detect.forward import Outputs, forward
from nearsql.pipeline.detect.letterbox import Frame, letterbox
from nearsql.pipeline.detect.losses import image_losses
from nearsql.pipeline.detect.truth import Target
from nearsql.pipeline.detect.weights import Detector, load_detector
from nearsql.pipeline.loss_distance import image_side
from nearsql.pipeline.loss_distance.assignment import _one_object_an_anchor
from nearsql.pipeline.loss_distance.image_side import ImageSide, PairLosses
from nearsql.pipeline.loss_distance.target_side import target_side

# isort: split
from ultralytics.utils.tal import TaskAlignedAssigner

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 160
# Of each image: width, height, and how many objects the detector is said to have found there.
IMAGES = [(320, 240, 3), (100, 200, 0), (160, 160, 12), (50, 300, 1), (160, 90, 30)]


@cache
def loaded(family: str) -> Detector:
    return load_detector(saved_detector(family))


def ellipses(seed: int, count: int, width: int, height: int) -> list[Target]:
    """Objects of all sizes, some a pixel wide, some over the whole image."""
    rng = np.random.default_rng(seed)
    down, across = np.mgrid[:height, :width]
    found = []
    for _ in range(count):
        x = np.sort(rng.uniform(0, width, 2))
        y = np.sort(rng.uniform(0, height, 2))
        rx, ry = max(x[1] - x[0], 1) / 2, max(y[1] - y[0], 1) / 2
        inside = ((across - x.mean()) / rx) ** 2 + ((down - y.mean()) / ry) ** 2 < 1
        mask = {"size": [height, width], "counts": rle_counts(inside)}
        found.append(Target(int(rng.integers(CLASSES)), (x[0], y[0], x[1], y[1]), mask))
    return found


def rle_counts(inside: npt.NDArray[np.bool_]) -> str:
    from pycocotools import mask

    return str(mask.encode(np.asfortranarray(inside, np.uint8))["counts"].decode())


@cache
def targets() -> tuple[list[list[Target]], list[Frame]]:
    objects = [ellipses(n, count, w, h) for n, (w, h, count) in enumerate(IMAGES)]
    return objects, [Frame.fit(w, h, SIZE) for w, h, _ in IMAGES]


def passes(detector: Detector, count: int) -> list[Outputs]:
    squares = [letterbox(random_image(seed), SIZE)[0] for seed in range(count)]
    return [forward(detector, [square]) for square in squares]


def assert_official(
    detector: Detector,
    outputs: Outputs,
    objects: list[list[Target]],
    frames: list[Frame],
    got: PairLosses,
    rel: float,
) -> None:
    """Each target's losses are those of the official criterion for it alone."""
    for j, (of_target, frame) in enumerate(zip(objects, frames, strict=True)):
        (expected,) = image_losses(detector, outputs, [of_target], [frame])
        assert got.n_foreground[j] == expected.n_foreground
        assert got.normaliser[j].item() == pytest.approx(expected.normaliser, rel=rel)
        for component, value in expected.values.items():
            if value is not None:
                assert got.values[component][j].item() == pytest.approx(value, rel=rel), component


@pytest.mark.parametrize("family", FAMILIES)
def test_every_pair_is_official(family: str) -> None:
    detector = loaded(family)
    objects, frames = targets()
    side = target_side(detector, objects, frames)
    for outputs in passes(detector, 3):
        chosen = torch.arange(len(objects))
        got = ImageSide(detector, outputs).losses(side, chosen, detector.components)
        assert_official(detector, outputs, objects, frames, got, rel=1e-5)
        assert set(got.values) == set(detector.components)
        assert got.n_foreground[1] == 0
        assert got.n_foreground[2] > 0


@pytest.mark.parametrize("at_once", [1, 5, 1000])
@pytest.mark.parametrize("family", ["yolov8n-seg", "yolo26n-seg"])
def test_portions_do_not_matter(family: str, at_once: int, monkeypatch: pytest.MonkeyPatch) -> None:
    detector = loaded(family)
    side = target_side(detector, *targets())
    (outputs,) = passes(detector, 1)
    image = ImageSide(detector, outputs)
    chosen = torch.tensor([4, 0, 1, 2, 0])
    expected = image.losses(side, chosen, detector.components)
    monkeypatch.setattr(image_side, "_OBJECTS_AT_ONCE", at_once)
    monkeypatch.setattr(image_side, "_OBJECTS_WITH_MASKS_AT_ONCE", at_once)
    got = image.losses(side, chosen, detector.components)
    for component in detector.components:
        torch.testing.assert_close(got.values[component], expected.values[component])
        assert got.values[component][1] == got.values[component][4]
    torch.testing.assert_close(got.normaliser, expected.normaliser)


def test_only_the_components_asked_for() -> None:
    detector = loaded("yolov8n-seg")
    side = target_side(detector, *targets())
    (outputs,) = passes(detector, 1)
    image = ImageSide(detector, outputs)
    every = image.losses(side, torch.arange(5), detector.components)
    some = image.losses(side, torch.arange(5), ["cls", "seg"])
    assert set(some.values) == {"cls", "seg"}
    for component, values in some.values.items():
        assert values.tolist() == every.values[component].tolist()


def test_class_weights_count() -> None:
    detector = load_detector(saved_detector("yolov8n"))
    detector.criterion.class_weights = torch.tensor([0.5, 2.0, 1.0, 3.0, 0.1]).view(1, 1, -1)
    objects, frames = targets()
    (outputs,) = passes(detector, 1)
    side = target_side(detector, objects, frames)
    got = ImageSide(detector, outputs).losses(side, torch.arange(5), detector.components)
    assert_official(detector, outputs, objects, frames, got, rel=1e-5)


def test_masks_of_another_size_than_the_prototypes() -> None:
    """A model trained with --mask_ratio 2."""
    for family in ("yolov8n-seg", "yolo26n-seg"):
        detector = load_detector(saved_detector(family))
        detector.loss_settings["mask_ratio"] = 2
        objects, frames = targets()
        (outputs,) = passes(detector, 1)
        side = target_side(detector, objects[:3], frames[:3])
        got = ImageSide(detector, outputs).losses(side, torch.arange(3), detector.components)
        assert_official(detector, outputs, objects[:3], frames[:3], got, rel=1e-5)


@settings(deadline=None, max_examples=80)
@given(
    n_objects=st.lists(st.integers(1, 4), min_size=1, max_size=4),
    n_anchors=st.integers(1, 12),
    seed=st.integers(0, 2**32 - 1),
)
def test_conflicts_are_settled_as_the_assigner_does(
    n_objects: list[int], n_anchors: int, seed: int
) -> None:
    rng = np.random.default_rng(seed)
    count = sum(n_objects)
    positive = torch.from_numpy(rng.integers(0, 2, (count, n_anchors)).astype(np.int8))
    # Few values, so that overlaps are equal, and 0.
    overlaps = torch.from_numpy(rng.integers(0, 4, (count, n_anchors)) / np.float32(4))
    owner = torch.repeat_interleave(torch.arange(len(n_objects)), torch.tensor(n_objects))
    got = torch.stack(_one_object_an_anchor(positive, overlaps, owner), 1).tolist()
    expected = []
    first = 0
    for n in n_objects:
        rows = slice(first, first + n)
        of_anchor, is_foreground, _ = TaskAlignedAssigner(topk=3).select_highest_overlaps(
            positive[None, rows], overlaps[None, rows], n, overlaps[None, rows]
        )
        for anchor in is_foreground[0].nonzero()[:, 0].tolist():
            expected.append([first + int(of_anchor[0, anchor]), anchor])
        first += n
    assert got == expected


@pytest.mark.assets
def test_real_weights_one_forward_a_pair() -> None:
    """The naive loop itself: a forward pass and the criterion for each of 36 pairs."""
    detector = load_detector(assets() / "weights" / "yolov8n-seg.pt")
    folder = assets() / "coco128-seg" / "images" / "train2017"
    framed = [
        letterbox(images.rgb(Path(path).read_bytes()), 640) for path in sorted(folder.iterdir())[:6]
    ]
    outputs = [forward(detector, [square]) for square, _ in framed]
    frames = [frame for _, frame in framed]
    objects = [
        [Target(found.class_index, found.box, found.mask) for found in of_image]
        for one, frame in zip(outputs, frames, strict=True)
        for of_image in detections(detector, one, [frame])
    ]
    assert sum(map(len, objects)) > 10
    side = target_side(detector, objects, frames)
    for (square, _), one in zip(framed, outputs, strict=True):
        got = ImageSide(detector, one).losses(side, torch.arange(6), detector.components)
        for j in range(6):
            again = forward(detector, [square])
            part = PairLosses(
                {name: values[j : j + 1] for name, values in got.values.items()},
                got.normaliser[j : j + 1],
                got.n_foreground[j : j + 1],
            )
            assert_official(detector, again, [objects[j]], [frames[j]], part, rel=1e-4)
