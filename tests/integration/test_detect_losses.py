"""The loss of each image: the official criterion's, whatever else is in the batch."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest
import torch
from detectors import CLASSES, FAMILIES, random_image, save_detector

from nearsql.pipeline.detect.forward import forward
from nearsql.pipeline.detect.letterbox import Frame, letterbox
from nearsql.pipeline.detect.losses import ImageLosses, image_losses
from nearsql.pipeline.detect.truth import Target
from nearsql.pipeline.detect.weights import Detector, load_detector

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
def checkpoints(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    """A checkpoint of every family."""
    folder = tmp_path_factory.mktemp("weights")
    return {
        family: save_detector(folder / f"{family}.pt", family, seed=number)
        for number, family in enumerate(FAMILIES)
    }


@pytest.fixture(scope="module")
def loaded(checkpoints: dict[str, Path]) -> dict[str, Detector]:
    """Those detectors."""
    return {family: load_detector(path) for family, path in checkpoints.items()}


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
    outlines = [np.float32(target.polygons[0]).reshape(-1, 2) for target in targets]
    labels = {
        "img": np.ascontiguousarray(rgb[..., ::-1]),
        "cls": np.float32([[target.class_index] for target in targets]).reshape(-1, 1),
        "instances": Instances(
            np.float32([target.box for target in targets]).reshape(-1, 4),
            np.stack(resample_segments(outlines)) if outlines else np.zeros((0, 1000, 2), "f4"),
            bbox_format="xyxy",
            normalized=False,
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
    checkpoints: dict[str, Path],
    loaded: dict[str, Detector],
    photos: list[Pixels],
    truths: list[list[Target]],
) -> None:
    detector = loaded[family]
    found = losses_of(detector, photos, truths, SIZE)
    for photo, objects, losses in zip(photos, truths, found, strict=True):
        expected = official_losses(checkpoints[family], photo, objects, SIZE)
        print(family, losses, expected)
        assert losses.n_foreground > 0
        assert losses.reasons == {}
        assert tuple(losses.values) == detector.components
        for component in detector.components:
            assert expected[component] > 1e-3
            assert losses.values[component] == pytest.approx(expected[component], rel=1e-4)
