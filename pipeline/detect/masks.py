"""From mask prototypes to the mask of each detection, in original pixels.

A segmentation model gives an image some prototype masks, a quarter of its square in size, and each
detection a coefficient for each of them. Their weighted sum, brought to the image's own size and
cut at zero and at the detection's box, is its mask. This is ultralytics' `process_mask_native`
(`retina_masks=True`): the other way, `process_mask`, gives masks of the letterboxed square, which
would have to be cut at the half and scaled once more to lie on the image.

Its way of getting to the image's size is linear in each axis. So here it is a matrix for each axis,
and only the part of the mask that lies in the box is ever computed.
"""

import math
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from nearsql.pipeline.detect.letterbox import Frame
from nearsql.udfs import rle

Floats = NDArray[np.float32]


def image_masks(
    prototypes: Floats, coefficients: Floats, boxes: NDArray[np.float64], frame: Frame
) -> list[dict[str, Any]]:
    """The masks of one image's detections as COCO RLE of the image's size, ready for JSON.

    prototypes (c, h, w); coefficients (n, c); boxes (n, 4), x_min, y_min, x_max, y_max in original
    pixels, within the image. A mask's pixels are those whose numbers lie in the box: x_min <= x <
    x_max. It may be empty.
    """
    _, height, width = prototypes.shape
    factor = upsampling(frame, height)
    across, down = frame.scaled_size
    rows = _axis(height, factor, frame.size, frame.top, down, frame.height)
    columns = _axis(width, factor, frame.size, frame.left, across, frame.width)
    masks = []
    for weights, box in zip(coefficients, np.ceil(boxes).astype(np.int64).tolist(), strict=True):
        x_min, y_min, x_max, y_max = box
        bitmap = np.zeros((y_max - y_min, x_max - x_min), dtype=bool)
        if bitmap.size:
            up, down = rows.reach(y_min, y_max)
            left, right = columns.reach(x_min, x_max)
            sums = np.tensordot(weights, prototypes[:, up:down, left:right], axes=1)
            in_box = (
                rows.weights[y_min:y_max, up:down]
                @ sums
                @ columns.weights[x_min:x_max, left:right].T
            )
            bitmap = in_box > 0
        masks.append(rle.encode(bitmap, top=y_min, left=x_min, size=(frame.height, frame.width)))
    return masks


def upsampling(frame: Frame, n_prototype_rows: int) -> int:
    """How many times the prototypes are enlarged before the padding is cut off.

    The least (1, 2, or the 4 that gives the square itself) at which the padding is whole pixels.
    """
    most = frame.size // n_prototype_rows
    across, down = frame.scaled_size
    padding = (frame.left, frame.top, frame.size - across, frame.size - down)
    return most // math.gcd(most, *padding)


class _Axis:
    """How the pixels of one side of the image follow from the prototypes' rows, or columns."""

    def __init__(self, weights: Floats) -> None:
        """weights: (pixels of the image, prototype pixels); the rows of a band matrix."""
        self.weights = weights
        self._first = (weights != 0).argmax(axis=1)
        self._last = weights.shape[1] - (weights != 0)[:, ::-1].argmax(axis=1)

    def reach(self, first: int, last: int) -> tuple[int, int]:
        """The prototype pixels that the image's pixels from first to before last depend on."""
        return int(self._first[first]), int(self._last[last - 1])


@lru_cache(maxsize=16)  # the images of a collection have few sizes
def _axis(n: int, factor: int, size: int, first: int, scaled: int, length: int) -> _Axis:
    """The axis of n prototype pixels, over a square in which the image fills `scaled` pixels from `first`.

    length: of the image's own side. The matrix is torch's own linear interpolation of each single
    prototype pixel.
    """
    ratio = size // n  # pixels of the square a prototype pixel
    basis = torch.eye(n)[None]
    if factor > 1:
        basis = torch.nn.functional.interpolate(basis, scale_factor=factor, mode="linear")
    start, stop = first * factor // ratio, (first + scaled) * factor // ratio
    weights = torch.nn.functional.interpolate(basis[..., start:stop], length, mode="linear")
    return _Axis(np.ascontiguousarray(weights[0].T.numpy()))
