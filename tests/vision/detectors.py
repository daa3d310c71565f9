"""Small detectors of every family for tests: randomly initialised, seeded, and not trivial.

Their running statistics are those of real activations, and their scores and boxes vary from anchor to
anchor, so that objects get anchors and no loss component vanishes.
"""

import os
import tempfile
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from nearsql.pipeline.detect import weights  # noqa: F401
from nearsql.pipeline.detect.letterbox import letterbox

# isort: split
# After `weights`, which keeps the import from changing other libraries.
from ultralytics.nn.tasks import DetectionModel, SegmentationModel

# A model of every family whose loss is computed, by the name of its yaml file.
FAMILIES = (
    "yolov8n",
    "yolov8n-seg",
    "yolov10n",
    "yolo11n",
    "yolo11n-seg",
    "yolo26n",
    "yolo26n-seg",
)
CLASSES = 5

_folder = tempfile.TemporaryDirectory(prefix="nearsql-tests-")


def save_detector(
    path: Path, architecture: str, *, seed: int = 0, classes: int = CLASSES, **more: Any
) -> Path:
    """Saves a random model of the architecture as ultralytics saves one, in half precision.

    more: further entries of the checkpoint. Gives the path.
    """
    torch.manual_seed(seed)
    kind = SegmentationModel if architecture.endswith("-seg") else DetectionModel
    model = kind(f"{architecture}.yaml", nc=classes, verbose=False)
    model.names = {index: f"class {index}" for index in range(classes)}
    _settle_running_statistics(model)
    _spread_outputs(model)
    checkpoint = {"model": model.half(), "ema": None, "train_args": {}, "license": "AGPL-3.0"}
    torch.save({**checkpoint, **more}, path)
    return path


@cache
def saved_detector(family: str) -> Path:
    """A checkpoint of the family, made once for all tests. Nobody writes to it."""
    return save_detector(Path(_folder.name) / f"{family}.pt", family, seed=FAMILIES.index(family))


def random_image(seed: int, width: int = 320, height: int = 240) -> npt.NDArray[np.uint8]:
    """An RGB image (height, width, 3) of coloured rectangles on noise."""
    rng = np.random.default_rng(seed)
    image = rng.integers(0, 80, (height, width, 3))
    for _ in range(6):
        x, y = rng.integers(0, width - 40), rng.integers(0, height - 40)
        w, h = rng.integers(20, 160, 2)
        image[y : y + h, x : x + w] += rng.integers(0, 170, 3)
    return image.clip(0, 255).astype(np.uint8)


def _settle_running_statistics(model: torch.nn.Module) -> None:
    """Sets the running statistics to those of a batch of random images."""
    norms = [module for module in model.modules() if isinstance(module, torch.nn.BatchNorm2d)]
    for norm in norms:
        norm.momentum = 1.0
        torch.nn.init.uniform_(norm.weight, 0.4, 0.8)
        torch.nn.init.normal_(norm.bias, 0.5, 0.2)
    model.train()
    with torch.no_grad():
        model(_calibration_images())
    for norm in norms:
        norm.momentum = 0.03


def _spread_outputs(model: torch.nn.Module) -> None:
    """Makes the outputs of the head's last layers vary from anchor to anchor, by as much as in real ones."""
    for name, branch in model.model[-1].named_children():
        if isinstance(branch, torch.nn.ModuleList) and "cv" in name:
            # cv2: boxes, cv3: classes, cv4: mask coefficients
            spread, centre = {"2": (0.7, 1.5), "3": (1.5, -2.0), "4": (0.5, 0.0)}[name[-1]]
            for level in branch:
                torch.nn.init.normal_(level[-1].bias, centre, 0.2)
                level[-1].register_forward_hook(partial(_rescale, spread))
    model.eval()
    with torch.no_grad():
        model(_calibration_images())
    for module in model.modules():
        module._forward_hooks.clear()


def _rescale(
    spread: float, layer: torch.nn.Module, inputs: tuple[torch.Tensor], output: torch.Tensor
) -> None:
    layer.weight.data *= spread / output.std()


def _calibration_images() -> torch.Tensor:
    squares = [letterbox(random_image(seed), 160)[0] for seed in range(8)]
    return torch.from_numpy(np.stack(squares)).permute(0, 3, 1, 2).float() / 255


def assets() -> Path:
    """The folder of real images and weights, for tests marked `assets`."""
    return Path(os.environ["NEARSQL_ASSETS"])
