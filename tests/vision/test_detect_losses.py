"""The loss of each image: the official criterion's, whatever else is in the batch."""

import math
from collections.abc import Sequence
from dataclasses import replace
from itertools import compress
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import numpy.typing as npt
import pytest
import torch
from detectors import CLASSES, FAMILIES, assets, random_image, saved_detector
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.pipeline import devices, images
from nearsql.pipeline.detect.forward import Outputs, forward
from nearsql.pipeline.detect.letterbox import Frame, letterbox
from nearsql.pipeline.detect.losses import ImageLosses, image_losses
from nearsql.pipeline.detect.truth import Target
from nearsql.pipeline.detect.weights import Detector, load_detector, state_sha256
from nearsql.udfs import rle

# isort: split
from ultralytics.cfg import get_cfg
from ultralytics.data.augment import Format, LetterBox
from ultralytics.utils import DEFAULT_CFG
from ultralytics.utils.instance import Instances
from ultralytics.utils.ops import resample_segments

Pixels = npt.NDArray[np.uint8]

SIZE = 160
IMAGES = 4
SEGMENTING = [family for family in FAMILIES if family.endswith("-seg")]


@pytest.fixture(scope="module")
def loaded() -> dict[str, Detector]:
    return {family: load_detector(saved_detector(family)) for family in FAMILIES}


@pytest.fixture(scope="module")
def photos() -> list[Pixels]:
    return [random_image(100 + number) for number in range(IMAGES)]


@pytest.fixture(scope="module")
def truths() -> list[list[Target]]:
    return [random_targets(200 + number, 2 + 3 * number) for number in range(IMAGES)]


def random_targets(seed: int, count: int, width: int = 320, height: int = 240) -> list[Target]:
    """Objects with an outline of 3 to 12 corners, from a tenth of the image to most of it."""
    rng = np.random.default_rng(seed)
    targets = []
    for _ in range(count):
        angles = np.sort(rng.uniform(0, 2 * math.pi, rng.integers(3, 13)))
        radius = rng.uniform(0.1, 0.45) * np.array([width, height]) * rng.uniform(0.5, 1, (1, 2))
        centre = rng.uniform(0.2, 0.8, 2) * [width, height]
        corners = centre + radius * np.stack([np.cos(angles), np.sin(angles)], 1)
        corners = corners.clip(0, [width, height])
        x_min, y_min = corners.min(0)
        x_max, y_max = corners.max(0)
        targets.append(
            Target(
                class_index=int(rng.integers(CLASSES)),
                box=(x_min, y_min, x_max, y_max),
                polygons=[corners.ravel().tolist()],
            )
        )
    return targets


def official_losses(
    path: Path, rgb: Pixels, targets: Sequence[Target], size: int
) -> dict[str, float]:
    """The slow, obvious twin: ultralytics' own model, transforms and criterion on one image.

    The model is in training mode with its normalisation layers in evaluation mode.
    """
    model = torch.load(path, weights_only=False)["model"].float()
    model.args = get_cfg(DEFAULT_CFG)
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    height, width = rgb.shape[:2]
    outlines = [
        (np.reshape((target.polygons or [[]])[0], (-1, 2)) / [width, height]).astype(np.float32)
        for target in targets
    ]
    boxes = [np.divide(target.box, [width, height] * 2) for target in targets]
    labels = {
        "img": np.ascontiguousarray(rgb[..., ::-1]),
        "cls": np.float32([[target.class_index] for target in targets]).reshape(-1, 1),
        "instances": Instances(
            np.float32(boxes).reshape(-1, 4),
            np.stack(resample_segments(outlines)) if outlines else np.zeros((0, 1000, 2), "f4"),
            bbox_format="xyxy",
            normalized=True,  # as in a label file
        ),
    }
    formatted = Format(return_mask=True, mask_ratio=4, mask_overlap=True)(
        LetterBox(size, auto=False)(labels)
    )
    batch = {
        "batch_idx": formatted["batch_idx"],
        "cls": formatted["cls"],
        "bboxes": formatted["bboxes"],
        "masks": formatted["masks"].reshape(1, size // 4, size // 4),
        "sem_masks": formatted["sem_masks"][None],
    }
    with torch.no_grad():
        predictions = model(formatted["img"][None].float() / 255)
        _, items = model.init_criterion()(predictions, batch)
    return {name.removesuffix("_loss"): value.item() for name, value in items.items()}


def losses_of(
    detector: Detector, photos: Sequence[Pixels], truths: Sequence[Sequence[Target]], size: int
) -> list[ImageLosses]:
    squares, frames = in_squares(photos, size)
    return image_losses(detector, forward(detector, squares), truths, frames)


def in_squares(photos: Sequence[Pixels], size: int) -> tuple[list[Pixels], list[Frame]]:
    pairs = [letterbox(photo, size) for photo in photos]
    return [square for square, _ in pairs], [frame for _, frame in pairs]


@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_the_official_ones_at_batch_size_1(
    family: str,
    loaded: dict[str, Detector],
    photos: list[Pixels],
    truths: list[list[Target]],
) -> None:
    detector = loaded[family]
    found = losses_of(detector, photos, truths, SIZE)
    for photo, objects, losses in zip(photos, truths, found, strict=True):
        expected = official_losses(saved_detector(family), photo, objects, SIZE)
        assert losses.n_foreground > 0
        assert losses.reasons == {}
        assert tuple(losses.values) == detector.components
        for component in detector.components:
            assert expected[component] > 1e-3
            assert losses.values[component] == pytest.approx(expected[component], rel=1e-4)


@settings(max_examples=4, deadline=None)
@given(data=st.data())
@pytest.mark.parametrize("family", FAMILIES)
def test_losses_are_the_same_whatever_else_is_in_the_batch(
    family: str,
    loaded: dict[str, Detector],
    photos: list[Pixels],
    truths: list[list[Target]],
    alone: dict[str, list[ImageLosses]],
    data: st.DataObject,
) -> None:
    members = data.draw(st.lists(st.integers(0, IMAGES - 1), min_size=1, max_size=5))
    emptied = data.draw(st.sets(st.integers(0, IMAGES - 1)))
    objects = [[] if n in emptied else truths[n] for n in members]
    found = losses_of(loaded[family], [photos[n] for n in members], objects, SIZE)
    for n, losses in zip(members, found, strict=True):
        if n in emptied:
            assert (losses.n_foreground, losses.normaliser) == (0, 0)
        else:
            assert_close(losses, alone[family][n])


@pytest.fixture(scope="module")
def alone(
    loaded: dict[str, Detector], photos: list[Pixels], truths: list[list[Target]]
) -> dict[str, list[ImageLosses]]:
    """The losses of each image in a batch of its own."""
    return {
        family: [
            losses_of(detector, [photo], [objects], SIZE)[0]
            for photo, objects in zip(photos, truths, strict=True)
        ]
        for family, detector in loaded.items()
    }


def assert_close(found: ImageLosses, expected: ImageLosses, rel: float = 1e-4) -> None:
    assert found.reasons == expected.reasons
    assert found.n_foreground == expected.n_foreground
    assert found.normaliser == pytest.approx(expected.normaliser, rel=rel)
    assert list(found.values) == list(expected.values)
    assert found.values == pytest.approx(expected.values, rel=rel)


@pytest.mark.parametrize("family", FAMILIES)
def test_the_criterion_runs_without_another_forward_pass_and_changes_nothing(
    family: str, photos: list[Pixels], truths: list[list[Target]], monkeypatch: pytest.MonkeyPatch
) -> None:
    detector = load_detector(saved_detector(family))

    def never(mode: bool = True) -> None:
        raise AssertionError("the network was put into training mode")

    before = state_sha256(detector)
    modes = [module.training for module in detector.network.modules()]
    calls: list[int] = []
    detector.network.register_forward_pre_hook(lambda module, args: calls.append(len(args[0])))
    monkeypatch.setattr(detector.network, "train", never)
    losses_of(detector, photos, truths, SIZE)
    losses_of(detector, photos[:1], truths[:1], SIZE)
    assert calls == [IMAGES, 1]
    assert detector.n_forwards == IMAGES + 1
    assert state_sha256(detector) == before
    assert [module.training for module in detector.network.modules()] == modes
    assert not detector.criterion.assigner._forward_hooks


@pytest.mark.parametrize("family", FAMILIES)
def test_an_image_without_objects(
    family: str, loaded: dict[str, Detector], photos: list[Pixels]
) -> None:
    detector = loaded[family]
    (losses,) = losses_of(detector, photos[:1], [[]], SIZE)
    expected = official_losses(saved_detector(family), photos[0], [], SIZE)
    assert losses.values["cls"] == pytest.approx(expected["cls"], rel=1e-4)
    assert losses.reasons == {
        name: "the image has no objects" for name in detector.components if name != "cls"
    }
    assert [name for name, value in losses.values.items() if value is not None] == ["cls"]
    assert (losses.normaliser, losses.n_foreground) == (0, 0)


@pytest.mark.parametrize("family", FAMILIES)
def test_crowds_are_left_out(
    family: str,
    loaded: dict[str, Detector],
    photos: list[Pixels],
    truths: list[list[Target]],
    alone: dict[str, list[ImageLosses]],
) -> None:
    # Without a mask: a crowd is not missed for having none.
    crowd = Target(1, (10, 10, 300, 200), is_crowd=True)
    objects = [[crowd, *truths[0]], [crowd]]
    with_crowd, only_crowds = losses_of(loaded[family], photos[:2], objects, SIZE)
    assert_close(with_crowd, alone[family][0])
    assert set(only_crowds.reasons.values()) == {"the image has crowds only, which are no objects"}
    assert only_crowds.values["cls"] is not None


def test_objects_without_masks_leave_the_mask_loss_undefined(
    loaded: dict[str, Detector],
    photos: list[Pixels],
    truths: list[list[Target]],
    alone: dict[str, list[ImageLosses]],
) -> None:
    for family in ("yolov8n-seg", "yolo11n-seg"):
        bare = [replace(truths[1][0], polygons=None), *truths[1][1:]]
        (losses,) = losses_of(loaded[family], photos[1:2], [bare], SIZE)
        assert losses.reasons == {"seg": "1 of the 5 objects have no mask"}
        assert losses.values["seg"] is None
        for component in ("box", "cls", "dfl"):
            expected = alone[family][1].values[component]
            assert losses.values[component] == pytest.approx(expected, rel=1e-4)


def test_where_masks_decide_the_assignment_nothing_is_defined_without_them(
    loaded: dict[str, Detector], photos: list[Pixels], truths: list[list[Target]]
) -> None:
    bare = [replace(target, polygons=None) for target in truths[0]]
    (losses,) = losses_of(loaded["yolo26n-seg"], photos[:1], [bare], SIZE)
    assert losses.values == dict.fromkeys(("box", "seg", "cls", "l1", "sem"))
    assert set(losses.reasons.values()) == {
        "2 of the 2 objects have no mask, and this model assigns objects to anchors by their masks"
    }
    assert (losses.normaliser, losses.n_foreground) == (None, None)


def test_a_detect_model_needs_no_masks(
    loaded: dict[str, Detector],
    photos: list[Pixels],
    truths: list[list[Target]],
    alone: dict[str, list[ImageLosses]],
) -> None:
    for family in ("yolov8n", "yolo26n"):
        bare = [replace(target, polygons=None) for target in truths[0]]
        (losses,) = losses_of(loaded[family], photos[:1], [bare], SIZE)
        assert_close(losses, alone[family][0])


@pytest.mark.parametrize("family", SEGMENTING)
def test_run_lengths_alone_give_nearly_the_losses_of_outlines(
    family: str,
    loaded: dict[str, Detector],
    photos: list[Pixels],
    truths: list[list[Target]],
    alone: dict[str, list[ImageLosses]],
) -> None:
    by_rle = [
        replace(target, polygons=None, mask=filled(target.polygons or [], photos[2].shape))
        for target in truths[2]
    ]
    (losses,) = losses_of(loaded[family], photos[2:3], [by_rle], SIZE)
    # The mask of a 26 decides the assignment too: there an edge may move an anchor.
    rel = 0.2 if family == "yolo26n-seg" else 0.05
    assert losses.reasons == {}
    assert losses.values == pytest.approx(alone[family][2].values, rel=rel)


def filled(polygons: list[list[float]], shape: tuple[int, ...]) -> dict[str, Any]:
    """COCO RLE of the outlines, filled in the image's own pixels."""
    canvas = np.zeros(shape[:2], np.uint8)
    for polygon in polygons:
        cv2.fillPoly(canvas, [np.reshape(polygon, (-1, 2)).astype(np.int32)], (1,))
    return rle.encode(canvas)


@pytest.mark.parametrize("family", FAMILIES)
def test_a_box_that_no_anchor_was_given_to(family: str, loaded: dict[str, Detector]) -> None:
    photo = random_image(5, SIZE, SIZE)  # so that there is no padding, and 0 stays 0
    nothing = Target(0, (0, 0, 0, 0), polygons=[[0, 0, 0, 0, 0, 0]])
    (losses,) = losses_of(loaded[family], [photo], [[nothing]], SIZE)
    assert losses.n_foreground == 0
    assert losses.values["cls"] is not None
    assert losses.reasons == {
        name: "no anchor was given to an object of the image"
        for name in losses.values
        if name != "cls"
    }


def test_a_box_without_area_gives_no_infinite_loss(loaded: dict[str, Detector]) -> None:
    photo = random_image(5, SIZE, SIZE)
    line = Target(0, (20, 80, 140, 80), polygons=[[20, 80, 80, 80, 140, 80]])
    for detector in loaded.values():
        (losses,) = losses_of(detector, [photo], [[line]], SIZE)
        for name, value in losses.values.items():
            assert (value is None) == (name in losses.reasons)
            assert value is None or math.isfinite(value)


def test_what_is_no_number_is_undefined(
    loaded: dict[str, Detector], photos: list[Pixels], truths: list[list[Target]]
) -> None:
    detector = loaded["yolov8n-seg"]
    squares, frames = in_squares(photos[:1], SIZE)
    outputs = forward(detector, squares)
    coefficients = torch.full_like(outputs.raw["mask_coefficient"], math.nan)
    broken = replace(outputs, raw={**outputs.raw, "mask_coefficient": coefficients})
    (losses,) = image_losses(detector, broken, truths[:1], frames)
    assert losses.reasons == {"seg": "the criterion gives nan"}
    assert losses.values["seg"] is None
    assert losses.values["box"] is not None


@pytest.mark.parametrize("family", ["yolov8n-seg", "yolo26n-seg"])
def test_after_half_precision_the_losses_are_computed_in_float32(
    family: str,
    loaded: dict[str, Detector],
    photos: list[Pixels],
    truths: list[list[Target]],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """bfloat16 on the CPU stands in for the GPU's float16."""
    detector = loaded[family]
    seen: list[set[torch.dtype]] = []

    def look(module: torch.nn.Module, args: tuple[torch.Tensor, ...]) -> None:
        assert not torch.is_autocast_enabled("cpu")
        seen.append({tensor.dtype for tensor in args})

    monkeypatch.setattr(
        devices, "autocast", lambda device: torch.autocast(device, dtype=torch.bfloat16)
    )
    squares, frames = in_squares(photos[:2], SIZE)
    outputs = forward(detector, squares, autocast=True)
    assert torch.equal(outputs.raw["scores"], outputs.raw["scores"].bfloat16().float())
    handles = [
        module.register_forward_pre_hook(look)
        for module in (detector.criterion.assigner, detector.criterion.bbox_loss)
    ]
    found = image_losses(detector, outputs, truths[:2], frames)
    for handle in handles:
        handle.remove()
    assert len(seen) == 4
    assert set().union(*seen) <= {torch.float32, torch.bool}
    # Rounding them again would change the sum of thousands of terms by more than this.
    for losses, expected in zip(
        found, loss_sums(detector, outputs, truths[:2], frames), strict=True
    ):
        assert losses.values["cls"] == pytest.approx(expected, rel=1e-5)


def loss_sums(
    detector: Detector,
    outputs: Outputs,
    truths: Sequence[Sequence[Target]],
    frames: Sequence[Frame],
) -> list[float]:
    """The classification loss of each image, summed in float64."""
    sums = []
    for number, (objects, frame) in enumerate(zip(truths, frames, strict=True)):
        given: list[torch.Tensor] = []
        handle = detector.criterion.assigner.register_forward_hook(
            lambda module, args, output, given=given: given.append(output[2][0].double())
        )
        image_losses(detector, outputs.item(number), [objects], [frame])
        handle.remove()
        scores = outputs.raw["scores"][number].T.double()
        bce = torch.nn.functional.binary_cross_entropy_with_logits(
            scores, given[0], reduction="sum"
        )
        sums.append(float(bce / given[0].sum().clamp(min=1) * detector.loss_settings["cls"]))
    return sums


def test_targets_and_frames_are_one_an_image(
    loaded: dict[str, Detector], photos: list[Pixels], truths: list[list[Target]]
) -> None:
    squares, frames = in_squares(photos[:2], SIZE)
    outputs = forward(loaded["yolov8n"], squares)
    for objects, places in [(truths[:1], frames[:1]), (truths[:3], [*frames, frames[0]])]:
        with pytest.raises(ValueError, match="2 images"):
            image_losses(loaded["yolov8n"], outputs, objects, places)


@pytest.mark.assets
def test_losses_of_real_weights_on_real_images() -> None:
    """Images of coco128-seg, in batches, against the official criterion one by one."""
    path = assets() / "weights" / "yolov8n-seg.pt"
    detector = load_detector(path)
    before = state_sha256(detector)
    files = sorted((assets() / "coco128-seg" / "images").glob("*/*.jpg"))[::16]
    photos = [images.rgb(file.read_bytes()) for file in files]
    # The official transform scales boxes by the sides' common ratio, also where the image's shorter side
    # was rounded to whole pixels: only elsewhere are its boxes ours.
    whole = [
        all(side * 640 % max(photo.shape) == 0 for side in photo.shape[:2]) for photo in photos
    ]
    files, photos = list(compress(files, whole)), list(compress(photos, whole))
    truths = [
        read_labels(file, width=photo.shape[1], height=photo.shape[0])
        for file, photo in zip(files, photos, strict=True)
    ]
    found = [
        losses
        for first in range(0, len(files), 4)
        for losses in losses_of(detector, photos[first : first + 4], truths[first : first + 4], 640)
    ]
    for photo, objects, losses in zip(photos, truths, found, strict=True):
        expected = official_losses(path, photo, objects, 640)
        for component in detector.components:
            if component in losses.reasons:
                assert not objects
            else:
                assert losses.values[component] == pytest.approx(expected[component], rel=1e-4)
    assert sum(not losses.reasons for losses in found) >= 6
    assert (detector.n_forwards, state_sha256(detector)) == (len(files), before)


def read_labels(image: Path, width: int, height: int) -> list[Target]:
    """The objects in the label file of an image, a repeated line once."""
    file = image.parents[2] / "labels" / image.parent.name / f"{image.stem}.txt"
    lines = file.read_text().splitlines() if file.exists() else []
    targets = []
    for line in dict.fromkeys(lines):
        class_index, *points = map(float, line.split())
        corners = np.reshape(points, (-1, 2)) * [width, height]
        box = (*corners.min(0).tolist(), *corners.max(0).tolist())
        targets.append(Target(int(class_index), box, polygons=[corners.ravel().tolist()]))
    return targets
