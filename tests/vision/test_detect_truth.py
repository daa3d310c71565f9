"""Ground truth for the criterion is what ultralytics' own data loading makes of the same labels."""

import math
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from detectors import CLASSES, assets, saved_detector
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from pycocotools import mask as coco_rle

from nearsql.pipeline.detect.letterbox import Frame
from nearsql.pipeline.detect.truth import Target, batch_targets
from nearsql.pipeline.detect.weights import Detector, load_detector

# isort: split
# After `weights`, which keeps the import from changing other libraries.
from ultralytics.data.augment import Format, LetterBox
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils.instance import Instances
from ultralytics.utils.ops import resample_segments

Batch = dict[str, torch.Tensor]

WIDTH, HEIGHT, SIZE = 320, 240, 160
FRAME = Frame.fit(WIDTH, HEIGHT, SIZE)
NEAR = 1e-4  # pixels; a box's numbers are float32, whose steps near 640 are 6e-5
SQUARE = [[40.0, 40.0, 120.0, 40.0, 120.0, 120.0, 40.0, 120.0]]


@pytest.fixture(scope="module")
def segmenting() -> Detector:
    return load_detector(saved_detector("yolov8n-seg"))


@pytest.fixture(scope="module")
def detecting() -> Detector:
    return load_detector(saved_detector("yolov8n"))


def outlined(corners: npt.ArrayLike, class_index: int = 0, **more: Any) -> Target:
    """The object with this outline, and the box around it."""
    points = np.reshape(corners, (-1, 2))
    box = (*points.min(0).tolist(), *points.max(0).tolist())
    return Target(class_index, box, polygons=[points.ravel().tolist()], **more)


def filled(corners: npt.ArrayLike) -> dict[str, Any]:
    """COCO RLE of the outline, filled in the image's own pixels."""
    canvas = np.zeros((HEIGHT, WIDTH), np.uint8)
    cv2.fillPoly(canvas, [np.reshape(corners, (-1, 2)).astype(np.int32)], (1,))
    rle: dict[str, Any] = coco_rle.encode(np.asfortranarray(canvas))
    return {"size": rle["size"], "counts": rle["counts"].decode()}


def pixel_boxes(batch: Batch, size: int = SIZE) -> npt.NDArray[np.float64]:
    """The batch's boxes as corners in square pixels."""
    middle, side = np.split(batch["bboxes"].numpy().astype(float) * size, 2, 1)
    return np.concatenate([middle - side / 2, middle + side / 2], 1)


def assert_same_objects(
    detector: Detector, targets: Sequence[Target], frame: Frame, expected: Batch
) -> Batch:
    """Our batch of the targets, which has the expected boxes, classes and masks.

    Objects of equal area may come in another order, and lie over each other the other way: ultralytics
    sorts them by an algorithm that depends on the processor.
    """
    found = batch_targets(detector, [targets], [frame])
    side = frame.size // 4
    assert found["masks"].shape == expected["masks"].shape == (1, side, side)
    assert found["bboxes"].shape == expected["bboxes"].shape
    number_of = [0]  # expected number -> ours
    left = list(range(len(targets)))
    ours, theirs = pixel_boxes(found, frame.size), pixel_boxes(expected, frame.size)
    for box, class_index in zip(theirs, expected["cls"], strict=True):
        same = [
            n for n in left if abs(ours[n] - box).max() < NEAR and found["cls"][n] == class_index
        ]
        assert same, f"there is no object of class {class_index} in {box}"
        left.remove(same[0])
        number_of.append(same[0] + 1)
    renumbered = torch.tensor(number_of)[expected["masks"].long()]
    areas = sorted(
        (int(batch_targets(detector, [[one]], [frame])["masks"].sum()) for one in targets),
        reverse=True,
    )
    differ = found["masks"] != renumbered
    for one, other in zip(found["masks"][differ], renumbered[differ], strict=True):
        assert one > 0
        assert other > 0
        assert areas[one - 1] == areas[other - 1]
    same_order = (found["masks"] == renumbered) & (found["masks"] > 0)
    assert torch.equal(found["sem_masks"][same_order], expected["sem_masks"][same_order])
    return found


def formatted(targets: Sequence[Target], width: int, height: int, size: int) -> Batch:
    """The slow, obvious twin: ultralytics' transforms of the same labels."""
    outlines = [np.float32((target.polygons or [[]])[0]).reshape(-1, 2) for target in targets]
    labels = {
        "img": np.zeros((height, width, 3), np.uint8),
        "cls": np.float32([[target.class_index] for target in targets]),
        "instances": Instances(
            np.float32([target.box for target in targets]),
            np.stack(resample_segments(outlines)),
            bbox_format="xyxy",
            normalized=False,
        ),
    }
    made = Format(return_mask=True)(LetterBox(size, auto=False)(labels))
    return {
        "cls": made["cls"],
        "bboxes": made["bboxes"],
        "masks": made["masks"].reshape(1, size // 4, size // 4),
        "sem_masks": made["sem_masks"][None],
    }


@st.composite
def outlines(draw: st.DrawFn) -> list[Target]:
    """1 to 12 objects of 3 to 30 corners; on quarters of a pixel, which float32 keeps exactly."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    objects = []
    for _ in range(draw(st.integers(1, 12))):
        angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 31)))
        reach = rng.uniform(0.02, 0.5) * rng.uniform(0.3, 1, (len(angles), 1)) * [WIDTH, HEIGHT]
        corners = rng.uniform(0, 1, 2) * [WIDTH, HEIGHT]
        corners = corners + reach * np.stack([np.cos(angles), np.sin(angles)], 1)
        corners = np.rint(corners.clip(0, [WIDTH, HEIGHT]) * 4) / 4
        objects.append(outlined(corners, int(rng.integers(CLASSES))))
    return objects


@settings(max_examples=25, deadline=None)
@given(outlines())
def test_targets_are_those_of_ultralytics_transforms(
    segmenting: Detector, targets: list[Target]
) -> None:
    assert_same_objects(segmenting, targets, FRAME, formatted(targets, WIDTH, HEIGHT, SIZE))


def test_more_objects_than_a_byte_can_count(segmenting: Detector) -> None:
    corners = [
        (x, y, x + 13, y, x + 13, y + 11, x, y + 11)
        for x in range(0, 300, 15)
        for y in range(0, 225, 15)
    ]
    targets = [outlined(corner, number % CLASSES) for number, corner in enumerate(corners)]
    assert len(targets) == 300
    expected = formatted(targets, WIDTH, HEIGHT, SIZE)
    batch = assert_same_objects(segmenting, targets, FRAME, expected)
    assert batch["masks"].max() == 300


def test_the_largest_comes_first_and_the_smallest_lies_on_top(segmenting: Detector) -> None:
    small = outlined([100, 100, 140, 100, 140, 140, 100, 140], 1)
    large = outlined([60, 60, 200, 60, 200, 200, 60, 200], 3)
    batch = batch_targets(segmenting, [[small, large]], [FRAME])
    assert batch["cls"].tolist() == [[3], [1]]
    expected = [[30, 50, 100, 120], [50, 70, 70, 90]]
    np.testing.assert_allclose(pixel_boxes(batch), expected, atol=NEAR)
    assert batch["masks"][0, 20, 15] == 2
    assert batch["masks"][0, 14, 10] == 1
    assert (batch["sem_masks"][0, 20, 15], batch["sem_masks"][0, 14, 10]) == (1, 3)
    assert (batch["masks"][0, 0, 0], batch["sem_masks"][0, 0, 0]) == (0, 0)


def test_a_batch_is_its_images_one_after_the_other(segmenting: Detector) -> None:
    frames = [FRAME, Frame.fit(100, 200, SIZE), FRAME]
    images = [
        [outlined(SQUARE, 1), outlined([0, 0, 9, 0, 9, 9], 2)],
        [],
        [outlined([1, 1, 90, 5, 50, 90], 3)],
    ]
    batch = batch_targets(segmenting, images, frames)
    assert batch["batch_idx"].tolist() == [0, 0, 2]
    assert batch["masks"].shape == batch["sem_masks"].shape == (3, SIZE // 4, SIZE // 4)
    for number, (targets, frame) in enumerate(zip(images, frames, strict=True)):
        alone = batch_targets(segmenting, [targets], [frame])
        own = batch["batch_idx"] == number
        assert torch.equal(batch["cls"][own], alone["cls"])
        assert torch.equal(batch["bboxes"][own], alone["bboxes"])
        assert torch.equal(batch["masks"][number], alone["masks"][0])
        assert torch.equal(batch["sem_masks"][number], alone["sem_masks"][0])


@pytest.mark.parametrize("images", [0, 1, 3])
def test_images_without_objects(segmenting: Detector, detecting: Detector, images: int) -> None:
    for detector in (segmenting, detecting) if images else (detecting,):
        batch = batch_targets(detector, [[]] * images, [FRAME] * images)
        assert batch["batch_idx"].shape == (0,)
        assert batch["cls"].shape == (0, 1)
        assert batch["bboxes"].shape == (0, 4)
        if detector is segmenting:
            assert not batch["masks"].any()
            assert batch["masks"].shape == (images, SIZE // 4, SIZE // 4)


def test_crowds_are_left_out(segmenting: Detector) -> None:
    crowd = outlined([0, 0, 300, 0, 300, 200, 0, 200], is_crowd=True)
    one = outlined(SQUARE, 2)
    found = batch_targets(segmenting, [[crowd, one, crowd]], [FRAME])
    expected = batch_targets(segmenting, [[one]], [FRAME])
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_detect_model_gets_boxes_in_their_order(detecting: Detector) -> None:
    targets = [outlined([0, 0, 9, 0, 9, 9], 2), outlined(SQUARE, 1), Target(4, (5, 6, 7, 8))]
    batch = batch_targets(detecting, [targets], [FRAME])
    assert set(batch) == {"batch_idx", "cls", "bboxes"}
    assert batch["cls"].tolist() == [[2], [1], [4]]
    expected = FRAME.to_square([target.box for target in targets])
    np.testing.assert_allclose(pixel_boxes(batch), expected, atol=1e-4)


@settings(max_examples=20, deadline=None)
@given(outlines())
def test_run_lengths_give_nearly_the_same_masks_as_outlines(
    segmenting: Detector, targets: list[Target]
) -> None:
    """An outline is filled in the square, run lengths were in the image: the edges may differ."""
    hull = cv2.convexHull(np.float32((targets[0].polygons or [[]])[0]).reshape(-1, 2)).ravel()
    by_rle = Target(0, targets[0].box, mask=filled(hull))
    drawn, found = (
        batch_targets(segmenting, [[target]], [FRAME])["masks"][0].numpy().astype(np.uint8)
        for target in (outlined(hull), by_rle)
    )
    kernel = np.ones((3, 3), np.uint8)
    assert (found >= cv2.erode(drawn, kernel)).all()
    assert (found <= cv2.dilate(drawn, kernel)).all()


def test_run_lengths_lie_where_the_object_is(segmenting: Detector) -> None:
    by_rle = Target(1, (40, 40, 120, 120), mask=filled([40, 40, 119, 40, 119, 119, 40, 119]))
    batch = batch_targets(segmenting, [[by_rle]], [FRAME])
    ((top, left), (bottom, right)) = (
        torch.nonzero(batch["masks"][0]).min(0).values.tolist(),
        torch.nonzero(batch["masks"][0]).max(0).values.tolist(),
    )
    # Image pixels 40 to 119 are square pixels 20 to 59 and 40 to 79, of which four make one.
    assert (left, right, top, bottom) == (5, 14, 10, 19)
    assert batch["masks"].sum() == 100


def test_the_outline_comes_before_the_run_lengths(segmenting: Detector) -> None:
    both = Target(1, (40, 40, 120, 120), mask=filled([0, 0, 9, 0, 9, 9]), polygons=SQUARE)
    found = batch_targets(segmenting, [[both]], [FRAME])["masks"]
    assert torch.equal(found, batch_targets(segmenting, [[outlined(SQUARE)]], [FRAME])["masks"])


def test_parts_of_an_outline_are_joined_also_where_they_overlap(segmenting: Detector) -> None:
    parts = [SQUARE[0], [80, 80, 200, 80, 200, 160, 80, 160]]
    whole = Target(1, (40, 40, 200, 160), polygons=parts)
    found = batch_targets(segmenting, [[whole]], [FRAME])["masks"] > 0
    each = [batch_targets(segmenting, [[outlined(part)]], [FRAME])["masks"] > 0 for part in parts]
    assert torch.equal(found, each[0] | each[1])
    assert (each[0] & each[1]).any()


def test_an_object_without_a_mask_covers_nothing(segmenting: Detector) -> None:
    for bare in (Target(1, (0, 0, 300, 200)), Target(1, (0, 0, 300, 200), polygons=[[]])):
        assert not bare.has_mask
        batch = batch_targets(segmenting, [[bare, outlined(SQUARE, 2)]], [FRAME])
        assert batch["cls"].tolist() == [[2], [1]]
        assert batch["masks"].max() == 1


@pytest.mark.parametrize("class_index", [-1, CLASSES])
def test_a_class_that_the_model_does_not_have(detecting: Detector, class_index: int) -> None:
    with pytest.raises(ValueError, match=f"classes are 0 to 4, and {class_index} is none"):
        batch_targets(detecting, [[outlined(SQUARE, class_index)]], [FRAME])


@pytest.mark.parametrize("value", [math.nan, math.inf, -math.inf])
def test_numbers_that_are_not_finite(segmenting: Detector, value: float) -> None:
    with pytest.raises(ValueError, match="a box that is not finite"):
        batch_targets(segmenting, [[Target(0, (0, value, 9, 9))]], [FRAME])
    with pytest.raises(ValueError, match="an outline that is not finite"):
        target = Target(0, (0, 0, 9, 9), polygons=[[0, 0, 9, value, 9, 9]])
        batch_targets(segmenting, [[target]], [FRAME])


def test_a_mask_of_another_image(segmenting: Detector) -> None:
    target = Target(0, (0, 0, 9, 9), mask=filled(SQUARE))
    with pytest.raises(ValueError, match=r"the mask is of \[240, 320\] .* image of \[10, 20\]"):
        batch_targets(segmenting, [[target]], [Frame.fit(20, 10, SIZE)])


def test_the_ratio_that_the_model_was_trained_with(tmp_path: Path) -> None:
    checkpoint = torch.load(saved_detector("yolov8n-seg"), weights_only=False)
    torch.save({**checkpoint, "train_args": {"mask_ratio": 1}}, tmp_path / "fine.pt")
    batch = batch_targets(load_detector(tmp_path / "fine.pt"), [[outlined(SQUARE)]], [FRAME])
    assert batch["masks"].shape == (1, SIZE, SIZE)
    assert batch["masks"].sum() == 41 * 41


@pytest.mark.assets
def test_targets_of_real_labels_are_those_of_yolo_dataset(tmp_path: Path) -> None:
    """All 128 images and 929 objects, but for those images that YOLODataset scales otherwise.

    Where the shorter side is scaled to a part of a pixel, YOLODataset rounds it up, and LetterBox, which
    is also what ultralytics predicts with, to the nearest.
    """
    shutil.copytree(assets() / "coco128-seg", tmp_path / "coco")  # it writes beside the labels
    (folder,) = (tmp_path / "coco" / "images").iterdir()
    dataset = YOLODataset(
        img_path=str(folder),
        imgsz=640,
        augment=False,
        rect=False,
        data={"names": dict(enumerate(map(str, range(80)))), "channels": 3},
        task="segment",
    )
    detector = load_detector(assets() / "weights" / "yolov8n-seg.pt")
    n_objects = n_otherwise = 0
    for number, file in enumerate(dataset.im_files):
        with Image.open(file) as image:
            width, height = image.size
        targets = read_labels(Path(file), width, height)
        n_objects += len(targets)
        frame = Frame.fit(width, height, 640)
        own = dataset[number]
        expected = {
            "cls": own["cls"].reshape(-1, 1),
            "bboxes": own["bboxes"].reshape(-1, 4),
            "masks": own["masks"].reshape(1, 160, 160),
            "sem_masks": own["sem_masks"].reshape(1, 160, 160),
        }
        if all(side * 640 % max(width, height) == 0 for side in (width, height)):
            found = assert_same_objects(detector, targets, frame, expected)
            # Here even the last bit is the same, so that no anchor is given to another object.
            assert set(rows(found["bboxes"])) == set(rows(expected["bboxes"]))
        else:
            n_otherwise += 1
            found = batch_targets(detector, [targets], [frame])
            assert abs(pixel_boxes(found, 640) - pixel_boxes(expected, 640)).max() <= 1
    assert (len(dataset), n_objects, n_otherwise) == (128, 929, 11)


def rows(tensor: torch.Tensor) -> list[tuple[float, ...]]:
    return list(map(tuple, tensor.tolist()))


def read_labels(image: Path, width: int, height: int) -> list[Target]:
    """The objects in the label file of an image, a repeated line once, as ultralytics reads them."""
    file = image.parents[2] / "labels" / image.parent.name / f"{image.stem}.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    targets = []
    for line in dict.fromkeys(lines):
        class_index, *points = map(float, line.split())
        targets.append(outlined(np.reshape(points, (-1, 2)) * [width, height], int(class_index)))
    return targets
