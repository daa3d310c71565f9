"""Detections and their masks: those of ultralytics on the same outputs, whatever else is going on."""

import itertools
import json
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np
import numpy.typing as npt
import pytest
import torch
from detectors import FAMILIES, assets, random_image, save_detector
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as coco

from nearsql.pipeline import images
from nearsql.pipeline.detect.detections import Detection, NotFiniteError, detections
from nearsql.pipeline.detect.forward import Outputs, forward
from nearsql.pipeline.detect.letterbox import Frame, letterbox
from nearsql.pipeline.detect.masks import image_masks, upsampling
from nearsql.pipeline.detect.weights import Detector, load_detector

# isort: split
# After `weights`, which keeps the import from changing other libraries.
from ultralytics import YOLO
from ultralytics.models.yolo.detect import DetectionPredictor
from ultralytics.models.yolo.segment import SegmentationPredictor
from ultralytics.utils import nms, ops

SIZE = 160
SIZES = ((320, 240), (97, 203), (150, 500))  # width, height


@pytest.fixture(scope="module", autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)


@pytest.fixture(scope="module", params=FAMILIES)
def seen(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Detector, Outputs, list[Frame]]:
    """A random detector of each family, and its outputs for images of three sizes."""
    path = tmp_path_factory.mktemp("weights") / f"{request.param}.pt"
    detector = load_detector(save_detector(path, request.param))
    squares, frames = zip(
        *(
            letterbox(random_image(seed, *size), SIZE)
            for seed, size in zip(itertools.count(20), SIZES, strict=False)
        ),
        strict=True,
    )
    return detector, forward(detector, squares), list(frames)


def by_ultralytics(
    detector: Detector, outputs: Outputs, frames: Sequence[Frame], conf: float, max_det: int
) -> list[list[tuple[int, float, list[float], Any]]]:
    """What ultralytics' own predictor makes of the same outputs: class, confidence, box, bitmap."""
    kind = SegmentationPredictor if detector.task == "segment" else DetectionPredictor
    predictor = kind(
        overrides={"task": detector.task, "conf": conf, "max_det": max_det, "retina_masks": True}
    )
    predictor.model = SimpleNamespace(
        names=dict(enumerate(detector.classes)), end2end=detector.is_end_to_end
    )
    predictor.batch = [["an image"] * len(frames)]
    images = [np.zeros((frame.height, frame.width, 3), np.uint8) for frame in frames]
    decoded = outputs.decoded.clone()
    given: Any = (decoded, outputs.raw)
    if detector.task == "segment":
        given = ((decoded, outputs.prototypes), outputs.raw)
    square = torch.zeros(len(frames), 3, frames[0].size, frames[0].size)
    return [
        as_tuples(result.boxes, result.masks)
        for result in predictor.postprocess(given, square, images)
    ]


def as_tuples(boxes: Any, masks: Any) -> list[tuple[int, float, list[float], Any]]:
    """Results of ultralytics, without boxes that have no area."""
    bitmaps = masks.data.numpy() if masks is not None else [None] * len(boxes)
    found = []
    for row, bitmap in zip(boxes.data.tolist(), bitmaps, strict=True):
        if row[2] > row[0] and row[3] > row[1]:
            found.append((int(row[5]), row[4], row[:4], bitmap))
    return found


def assert_same(
    found: Sequence[Detection], expected: Sequence[tuple[int, float, list[float], Any]]
) -> None:
    """ultralytics' predictor leaves out what has an empty mask; all else must be the same."""
    shown = [one for one in found if one.mask is None or coco.area(one.mask)]
    assert [one.class_index for one in shown] == [one[0] for one in expected]
    assert [one.confidence for one in shown] == pytest.approx(
        [one[1] for one in expected], rel=1e-5
    )
    for one, (_, _, box, bitmap) in zip(shown, expected, strict=True):
        assert one.box == pytest.approx(box, abs=0.01)
        if bitmap is not None:
            assert one.mask is not None
            different = coco.decode(one.mask) != bitmap
            # A pixel exactly on the border of a box or of a mask may fall to either side.
            assert different.mean() < 0.001


def test_detections_are_those_of_ultralytics(
    seen: tuple[Detector, Outputs, list[Frame]],
) -> None:
    detector, outputs, frames = seen
    for conf, max_det in ((0.25, 300), (0.05, 20)):
        found = detections(detector, outputs, frames, conf=conf, max_det=max_det)
        assert sum(map(len, found)) > 10
        for ours, theirs in zip(
            found, by_ultralytics(detector, outputs, frames, conf, max_det), strict=True
        ):
            assert_same(ours, theirs)


def test_detections_lie_in_their_image_and_go_into_json(
    seen: tuple[Detector, Outputs, list[Frame]],
) -> None:
    detector, outputs, frames = seen
    for found, frame in zip(detections(detector, outputs, frames), frames, strict=True):
        assert [one.confidence for one in found] == sorted(
            (one.confidence for one in found), reverse=True
        )
        for one in found:
            assert 0 <= one.box[0] < one.box[2] <= frame.width
            assert 0 <= one.box[1] < one.box[3] <= frame.height
            assert 0.25 < one.confidence <= 1
            assert one.class_index in range(len(detector.classes))
            assert json.loads(json.dumps(asdict(one))) == {**asdict(one), "box": list(one.box)}
            assert (one.mask is None) == (detector.task == "detect")
            if one.mask is not None:
                assert one.mask["size"] == [frame.height, frame.width]
                x, y, width, height = coco.toBbox(one.mask)
                assert width == 0 or (x >= one.box[0] and y >= one.box[1])
                assert x + width <= np.ceil(one.box[2])
                assert y + height <= np.ceil(one.box[3])


def test_an_image_is_seen_the_same_whatever_else_is_in_the_batch(
    seen: tuple[Detector, Outputs, list[Frame]],
) -> None:
    detector, outputs, frames = seen
    together = detections(detector, outputs, frames)
    for number, frame in enumerate(frames):
        assert detections(detector, outputs.item(number), [frame]) == [together[number]]


def test_a_slow_clock_changes_nothing(
    seen: tuple[Detector, Outputs, list[Frame]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """ultralytics gives up on suppression after some seconds; the later images then have nothing."""
    detector, outputs, frames = seen
    expected = detections(detector, outputs, frames)
    hours = itertools.count(step=3600)
    monkeypatch.setattr(nms, "time", SimpleNamespace(time=lambda: float(next(hours))))
    assert detections(detector, outputs, frames) == expected


def test_numbers_that_are_not_finite_are_an_error_that_names_the_images(
    seen: tuple[Detector, Outputs, list[Frame]],
) -> None:
    detector, outputs, frames = seen
    for value in (float("nan"), float("inf")):
        decoded = outputs.decoded.clone()
        decoded[1, -1, -1] = value
        with pytest.raises(NotFiniteError, match="for image 1 of the batch") as error:
            detections(detector, replace(outputs, decoded=decoded), frames)
        assert error.value.images == [1]
    if outputs.prototypes is not None:
        decoded[:] = outputs.decoded
        prototypes = outputs.prototypes.clone()
        prototypes[0, 3, 0, 0] = prototypes[2, 0, 1, 1] = float("-inf")
        with pytest.raises(NotFiniteError) as error:
            detections(detector, replace(outputs, raw={"proto": prototypes}), frames)
        assert error.value.images == [0, 2]


def invented(rows: Sequence[Sequence[float]], **more: Any) -> tuple[Detector, Outputs]:
    """An end-to-end model that says just these rows of one image."""
    detector = SimpleNamespace(classes=("a", "b", "c"), is_end_to_end=True, **more)
    decoded = torch.tensor([rows], dtype=torch.float32)
    return cast(Detector, detector), Outputs(decoded, {}, {})


def test_boxes_without_an_area_in_the_image_are_left_out() -> None:
    frame = Frame.fit(160, 80, 160)  # 40 rows of padding above and below
    detector, outputs = invented(
        [
            [10, 50, 20, 60, 0.9, 0],
            [10, 5, 20, 35, 0.8, 0],  # in the padding
            [20, 50, 10, 60, 0.7, 1],  # from right to left
            [10, 60, 10, 90, 0.6, 1],  # as thin as can be
            [-50, 100, 500, 200, 0.5, 2],  # beyond three sides
            [0, 0, 1, 1, 0.2, 2],
        ]
    )
    assert detections(detector, outputs, [frame]) == [
        [
            Detection(0, pytest.approx(0.9), (10, 10, 20, 20)),
            Detection(2, 0.5, (0, 60, 160, 80)),
        ]
    ]


def test_an_image_without_detections_has_none() -> None:
    detector, outputs = invented([[1, 1, 9, 9, 0.1, 0]])
    assert detections(detector, outputs, [Frame.fit(32, 32, 32)]) == [[]]


def boxes_of_three_classes(scores: Sequence[Sequence[float]]) -> tuple[Detector, Outputs]:
    """A model that suppresses, and says of one box of 8 x 8 at (8, 8) these scores, one row an anchor."""
    detector = SimpleNamespace(classes=("a", "b", "c"), is_end_to_end=False)
    anchors = [[12, 12, 8, 8, *row] for row in scores]
    return cast(Detector, detector), Outputs(torch.tensor([anchors]).transpose(1, 2), {}, {})


def test_a_box_may_be_of_several_classes_when_asked() -> None:
    frame, box = Frame.fit(32, 32, 32), (8.0, 8.0, 16.0, 16.0)
    detector, outputs = boxes_of_three_classes([[0.75, 0.5, 0.125], [0.625, 0.25, 0.125]])
    assert detections(detector, outputs, [frame]) == [[Detection(0, 0.75, box)]]
    assert detections(detector, outputs, [frame], multi_label=True) == [
        [Detection(0, 0.75, box), Detection(1, 0.5, box)]
    ]
    assert detections(detector, outputs, [frame], multi_label=True, max_det=1) == [
        [Detection(0, 0.75, box)]
    ]
    # Of a greater confidence than conf; and boxes are dropped only for overlapping by more than iou.
    assert detections(detector, outputs, [frame], conf=0.75) == [[]]
    assert len(detections(detector, outputs, [frame], iou=1.0)[0]) == 2


def full_size_masks(
    prototypes: npt.NDArray[np.float32],
    coefficients: npt.NDArray[np.float32],
    boxes: npt.NDArray[np.float64],
    frame: Frame,
) -> Iterator[tuple[npt.NDArray[np.bool_], npt.NDArray[np.float32]]]:
    """The slow, obvious way: each mask in full, then cut. Gives it and the sums behind it."""
    factor = upsampling(frame, prototypes.shape[1])
    across, down = frame.scaled_size
    ratio = frame.size // prototypes.shape[1]
    top, left = frame.top * factor // ratio, frame.left * factor // ratio
    for weights, (x_min, y_min, x_max, y_max) in zip(coefficients, boxes, strict=True):
        sums = torch.tensor((weights[:, None, None] * prototypes).sum(0))[None, None]
        if factor > 1:
            sums = torch.nn.functional.interpolate(sums, scale_factor=factor, mode="bilinear")
        sums = sums[..., top : top + down * factor // ratio, left : left + across * factor // ratio]
        sums = torch.nn.functional.interpolate(sums, (frame.height, frame.width), mode="bilinear")
        mask = sums[0, 0].numpy() > 0
        for y in range(frame.height):
            mask[y] &= y_min <= y < y_max
        for x in range(frame.width):
            mask[:, x] &= x_min <= x < x_max
        yield mask, sums[0, 0].numpy()


def random_masks(
    seed: int, frame: Frame, n: int
) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.float32], npt.NDArray[np.float64]]:
    """Smooth prototypes, coefficients, and boxes, some of them very small."""
    rng = np.random.default_rng(seed)
    side = frame.size // 4
    noise = torch.tensor(rng.normal(size=(8, side, side)), dtype=torch.float32)
    prototypes = torch.nn.functional.avg_pool2d(noise, 5, 1, 2).numpy() * 5
    coefficients = rng.normal(size=(n, 8)).astype(np.float32)
    corners = np.sort(rng.random((n, 2, 2)) ** rng.choice([0.2, 1, 5]), axis=1).reshape(n, 4)
    return prototypes, coefficients, corners * np.tile([frame.width, frame.height], 2)


frames = st.builds(
    Frame.fit, st.integers(1, 300), st.integers(1, 300), st.sampled_from([32, 64, 160])
)


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32), frames, st.integers(0, 5))
def test_masks_are_those_of_the_whole_image_cut_to_their_boxes(
    seed: int, frame: Frame, n: int
) -> None:
    prototypes, coefficients, boxes = random_masks(seed, frame, n)
    masks = image_masks(prototypes, coefficients, boxes, frame)
    slow = list(full_size_masks(prototypes, coefficients, boxes, frame))
    for mask, (bitmap, sums) in zip(masks, slow, strict=True):
        assert mask["size"] == [frame.height, frame.width]
        different = coco.decode(mask) != bitmap
        assert (np.abs(sums[different]) < 1e-4).all()  # on the border, as far as float32 can tell


@pytest.mark.parametrize(
    "size", [(640, 480), (480, 640), (640, 640), (333, 500), (97, 31), (7, 900)]
)
def test_masks_are_those_of_ultralytics(size: tuple[int, int]) -> None:
    frame = Frame.fit(*size, 160)
    prototypes, coefficients, boxes = random_masks(3, frame, 20)
    expected = ops.process_mask_native(
        torch.tensor(prototypes), torch.tensor(coefficients), torch.tensor(boxes), size[::-1]
    )
    masks = image_masks(prototypes, coefficients, boxes, frame)
    different = np.stack([coco.decode(mask) for mask in masks]) != expected.numpy()
    assert expected.any()
    assert different.mean() < 0.001


def test_a_mask_may_be_empty() -> None:
    frame = Frame.fit(40, 20, 32)
    prototypes = np.ones((1, 8, 8), np.float32)
    coefficients = np.array([[1], [-1], [1], [0]], np.float32)
    between_pixels = [5.2, 5.2, 5.8, 9]
    boxes = np.array([[2, 3, 12, 8], [2, 3, 12, 8], between_pixels, [0, 0, 40, 20]], np.float64)
    masks = image_masks(prototypes, coefficients, boxes, frame)
    assert [coco.area(mask) for mask in masks] == [50, 0, 0, 0]
    assert coco.toBbox(masks[0]).tolist() == [2, 3, 10, 5]


@pytest.mark.assets
@pytest.mark.parametrize("number", [0, 5, 33])
def test_real_detections_are_those_of_predict(number: int) -> None:
    """The whole way, from the file on: ultralytics decodes, letterboxes and runs a fused model."""
    weights = assets() / "weights" / "yolov8n-seg.pt"
    photo = sorted((assets() / "coco128-seg" / "images" / "train2017").glob("*.jpg"))[number]
    (result,) = YOLO(weights).predict(
        photo, rect=False, retina_masks=True, imgsz=640, conf=0.2, device="cpu", verbose=False
    )
    detector = load_detector(weights)
    square, frame = letterbox(images.rgb(Path(photo).read_bytes()), 640)
    (found,) = detections(detector, forward(detector, [square]), [frame], conf=0.2)
    expected = as_tuples(result.boxes.cpu(), result.masks.cpu())
    assert len(found) == len(expected) > 0
    for one, (class_index, confidence, box, bitmap) in zip(found, expected, strict=True):
        assert one.class_index == class_index
        assert one.confidence == pytest.approx(confidence, abs=0.01)
        assert one.box == pytest.approx(box, abs=1.5)
        assert one.mask is not None
        both = coco.decode(one.mask) + bitmap
        assert (both == 2).sum() / (both > 0).sum() > 0.97
