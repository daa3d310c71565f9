"""An image encoder that is a PyTorch network with the preprocessing it was trained with.

The field's use of such models: the network's raw image features, compared by cosine. What is stored is
therefore not normalised to length 1; the space's metric is cosine, which does not mind.

On the CPU one image is computed at a time. Matrix products of another batch size add up in another
order, so that a vector would depend, in its last bits, on what else was in its batch: on items that
failed, on where a run was interrupted. One by one it never does, a replay is exact to the bit, and it
costs up to a fifth (ViT-B-32 on two cores: 106 ms an image, 82 ms in batches of 16; DINOv2 none). On a
GPU, where batches are what makes it fast, the last bits may differ.
"""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from PIL import Image

from nearsql.pipeline import devices, images
from nearsql.pipeline.console import UserError
from nearsql.pipeline.encoders import Batch, CannotEncode, Columns, Vectors
from nearsql.udfs.spaces import Metric

# Preprocessing that a database file may ask for is bounded: larger inputs than this no model takes.
LARGEST_INPUT = 4096


class TorchEncoder:
    """Image features of a network on a device.

    features: (n, 3, height, width) float32 -> (n, dimensions). transform: a PIL image in RGB ->
    (3, height, width), the model's own, called in the threads that decode.
    """

    metric: Metric = "cosine"

    def __init__(
        self,
        features: Callable[[Any], Any],
        transform: Callable[[Image.Image], Any],
        input_size: tuple[int, int],
        device: str,
    ) -> None:
        """input_size: height and width. Raises UserError when the features are no vectors."""
        self._features, self._transform = features, transform
        self._input_size, self._device = input_size, device
        self.device = devices.describe(device)
        self.computation: Mapping[str, Any] = devices.computation(device)
        self.dimensions = self._find_dimensions()

    def prepare(self, content: bytes | str) -> Any:
        """One image's bytes as the network's input, (3, height, width) float32. Raises CannotEncode."""
        assert isinstance(content, bytes)
        try:
            pixels = images.rgb(content)
        except (images.NotAnImage, images.UnreadableImage) as error:
            raise CannotEncode(str(error)) from error
        height, width, _ = pixels.shape
        # Scaled so that its shorter side fits, a very long image would fill the memory.
        if max(height, width) / min(height, width) * max(self._input_size) ** 2 > images.MAX_PIXELS:
            raise CannotEncode(f"it has {width} x {height} pixels, too long to be scaled")
        try:
            return self._transform(Image.fromarray(pixels))
        except (ValueError, ZeroDivisionError) as error:  # a side that is scaled to nothing
            raise CannotEncode(f"it cannot be scaled from {width} x {height}: {error}") from error

    def __call__(self, batch: Batch) -> Columns:
        """The vectors of a batch, float32. Raises torch.OutOfMemoryError."""
        prepared = batch["prepared"]
        size = 1 if self._device == "cpu" else len(prepared)
        vectors = [
            self._encode(torch.stack(list(prepared[start : start + size])))
            for start in range(0, len(prepared), size)
        ]
        return {
            "item_id": batch["item_id"],
            "vector": np.concatenate(vectors),
            "problem": [None] * len(prepared),
        }

    def _encode(self, inputs: Any) -> Vectors:
        with torch.inference_mode(), devices.autocast(self._device):
            found = self._features(inputs.to(self._device, non_blocking=True))
        result: Vectors = found.float().cpu().numpy()
        return result

    def _find_dimensions(self) -> int:
        """How many numbers a vector has: that of a black image is computed."""
        try:
            shape = self._encode(torch.zeros(1, 3, *self._input_size)).shape
        except (RuntimeError, AssertionError, ValueError) as error:
            height, width = self._input_size
            raise UserError(f"the model takes no images of {width} x {height}: {error}") from error
        if len(shape) != 2:
            raise UserError(
                f"the model gives no vector an image, but an array of shape {shape[1:]}"
            )
        return int(shape[1])


def onto(network: Any, device: str) -> Any:
    """The network on the device, ready to be used and never trained."""
    return network.eval().requires_grad_(False).to(device)


def three_numbers(name: str, value: Any) -> tuple[float, float, float]:
    """A mean or standard deviation by channel, as JSON keeps it. Raises ValueError."""
    if (
        not isinstance(value, list | tuple)
        or len(value) != 3
        or not all(isinstance(number, int | float) and abs(number) < 1000 for number in value)
    ):
        raise ValueError(f"its {name} is {value!r}, not three numbers")
    red, green, blue = value
    return float(red), float(green), float(blue)


def input_size(value: Any) -> tuple[int, int]:
    """Height and width, as JSON keeps them: a number or two. Raises ValueError."""
    height, width = value if isinstance(value, list | tuple) and len(value) == 2 else (value, value)
    for side in (height, width):
        if not isinstance(side, int) or not 1 <= side <= LARGEST_INPUT:
            raise ValueError(f"its input size is {value!r}, not 1 to {LARGEST_INPUT} pixels")
    return int(height), int(width)
