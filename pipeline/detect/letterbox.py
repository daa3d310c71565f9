"""How an image lies in the square that a detector sees: scaled, centred, and padded with grey.

The geometry and the resampling are those of ultralytics' LetterBox(size, auto=False).
"""

from dataclasses import dataclass

import cv2
import numpy as np
import numpy.typing as npt

GREY = 114

Boxes = npt.NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Frame:
    """Where an image of width x height pixels lies in a square of `size` pixels.

    gain: square pixels per image pixel, before the scaled image's sides are rounded to whole pixels.
    left, top: the padding, in whole pixels.
    """

    width: int
    height: int
    size: int
    gain: float
    left: int
    top: int

    @classmethod
    def fit(cls, width: int, height: int, size: int) -> "Frame":
        """The frame of an image; a side that would round to nothing keeps one pixel."""
        if min(width, height, size) < 1:
            raise ValueError(
                f"an image of {width} x {height} has no place in {size} x {size} pixels"
            )
        gain = min(size / height, size / width)
        across, down = _scaled(width, gain), _scaled(height, gain)
        return cls(width, height, size, gain, _before(size - across), _before(size - down))

    @property
    def scaled_size(self) -> tuple[int, int]:
        """The width and height of the image within the square, in pixels."""
        return _scaled(self.width, self.gain), _scaled(self.height, self.gain)

    def to_square(self, boxes: npt.ArrayLike) -> Boxes:
        """Boxes (n, 4) as x_min, y_min, x_max, y_max: from image pixels to square pixels."""
        return _four(boxes) * self._gains() + self._shift()

    def to_image(self, boxes: npt.ArrayLike) -> Boxes:
        """Boxes (n, 4) from square pixels to image pixels, clipped to the image."""
        inside = (_four(boxes) - self._shift()) / self._gains()
        return np.clip(inside, 0.0, np.tile([float(self.width), float(self.height)], 2))

    def _gains(self) -> Boxes:
        """The gain along x and y, twice: each side is rounded to whole pixels on its own."""
        across, down = self.scaled_size
        return np.tile([across / self.width, down / self.height], 2)

    def _shift(self) -> Boxes:
        return np.tile([float(self.left), float(self.top)], 2)


def letterbox(rgb: npt.NDArray[np.uint8], size: int) -> tuple[npt.NDArray[np.uint8], Frame]:
    """The image (height, width, 3) in its square (size, size, 3), and how it lies there."""
    height, width = rgb.shape[:2]
    frame = Frame.fit(width, height, size)
    across, down = frame.scaled_size
    square = np.full((size, size, 3), GREY, np.uint8)
    inside = square[frame.top : frame.top + down, frame.left : frame.left + across]
    if (width, height) == (across, down):
        inside[:] = rgb
    else:
        inside[:] = cv2.resize(rgb, (across, down), interpolation=cv2.INTER_LINEAR)
    return square, frame


def _scaled(side: int, gain: float) -> int:
    return max(round(side * gain), 1)


def _before(padding: int) -> int:
    """The part of the padding on the left or at the top; an odd pixel goes to the other side."""
    return round(padding / 2 - 0.1)


def _four(boxes: npt.ArrayLike) -> Boxes:
    return np.asarray(boxes, np.float64).reshape(-1, 4)
