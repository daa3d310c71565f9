"""The demo's images: scikit-learn's 1,797 handwritten digits, with flaws planted and written down.

Planted: 20 labels flipped to another digit, 15 near-duplicates (a copy with a few pixels one grey
level off), 10 outliers (a digit's pixels in random order). Each is recorded, so that what nearsql
finds can be scored.
"""

import io
from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

FLIPPED, NEAR_DUPLICATES, OUTLIERS = 20, 15, 10
GREY_LEVELS = 16  # of the original scans: 0 (paper) to 16


@dataclass(frozen=True)
class Digit:
    """One image: an 8 x 8 greyscale PNG, its labels, and what was done to it."""

    uri: str
    png: bytes
    labels: dict[str, str] = field(default_factory=dict)


def planted_digits(seed: int = 0) -> Iterator[Digit]:
    """The digits in scikit-learn's order, then the near-duplicates, then the outliers.

    Labels: `digit` as a user would have it, flipped for 20; `planted` and `planted_truth` only on what
    was planted: the kind, and the true digit or the uri of the original.
    """
    from sklearn.datasets import load_digits

    rng = np.random.default_rng(seed)
    scans = load_digits()
    images: NDArray[np.uint8] = scans.images.astype(np.uint8)
    digits: list[int] = [int(digit) for digit in scans.target]
    chosen = rng.permutation(len(images))
    flipped = {int(i) for i in chosen[:FLIPPED]}
    copied = [int(i) for i in chosen[FLIPPED : FLIPPED + NEAR_DUPLICATES]]
    scrambled = [int(i) for i in chosen[FLIPPED + NEAR_DUPLICATES :][:OUTLIERS]]

    for i, (image, digit) in enumerate(zip(images, digits, strict=True)):
        labels = {"digit": str(digit)}
        if i in flipped:
            wrong = (digit + int(rng.integers(1, 10))) % 10
            labels = {"digit": str(wrong), "planted": "flipped label", "planted_truth": str(digit)}
        yield Digit(_uri(i), _png(image), labels)
    for i in copied:
        image = images[i].astype(np.int16)
        where = rng.choice(image.size, 3, replace=False)
        image.flat[where] += np.where(image.flat[where] < GREY_LEVELS, 1, -1)
        labels = {"digit": str(digits[i]), "planted": "near-duplicate", "planted_truth": _uri(i)}
        yield Digit(f"{_uri(i)}-copy", _png(image.astype(np.uint8)), labels)
    for i in scrambled:
        image = rng.permutation(images[i].ravel()).reshape(images[i].shape)
        labels = {"digit": str(digits[i]), "planted": "outlier", "planted_truth": _uri(i)}
        yield Digit(f"{_uri(i)}-scrambled", _png(image), labels)


def _uri(i: int) -> str:
    return f"scikit-learn:digits/{i:04d}"


def _png(image: NDArray[np.uint8]) -> bytes:
    from PIL import Image

    # Dark strokes on white, as written.
    grey = 255 - np.round(image * (255 / GREY_LEVELS)).astype(np.uint8)
    out = io.BytesIO()
    Image.fromarray(grey).save(out, "png")
    return out.getvalue()
