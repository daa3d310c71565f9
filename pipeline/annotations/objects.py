"""What a label file says about an image: its objects, in the image's pixels, and what it gets wrong."""

import json
import struct
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

import numpy as np

from nearsql.pipeline.row_hash import hash_rows

# How far, in parts of the image's side, a coordinate may lie outside the image and be taken to mean
# its border. The tolerance is ultralytics'. What lies further out is a mistake, and is refused.
TOLERANCE = 0.01

# Of one image or file, this many mistakes are told one by one, the others by their number.
MOST_PROBLEMS = 20

LARGEST_CLASS_ID = 2**31 - 1

_encoder = json.JSONEncoder(separators=(",", ":"), allow_nan=False)


@dataclass(frozen=True, slots=True)
class ClassName:
    """What a class number means."""

    name: str
    supercategory: str | None = None


@dataclass(frozen=True, slots=True)
class AnnotatedObject:
    """One object of an image, in pixels of the image as shown.

    It is drawn as polygons [[x, y, x, y, ...], ...], or as a mask (COCO RLE, compressed), or has a
    box alone.
    """

    class_id: int
    class_name: str | None
    box: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max
    polygons: list[list[float]] | None = None
    rle: dict[str, Any] | None = None
    is_crowd: bool = False

    def sha256(self) -> str:
        """The hash of what tells it from other objects; what follows from that is left out."""
        outline = None
        if self.polygons is not None:
            outline = b"".join(struct.pack("<q", len(p)) + _bytes(p) for p in self.polygons)
        mask = as_json(self.rle) if self.rle is not None else None
        return hash_rows(
            [(self.class_id, self.class_name, *self.box, outline, mask, int(self.is_crowd))]
        )


@dataclass(slots=True)
class ImageTruth:
    """All that the labels say about one image.

    problems: what is wrong in them, each a sentence that names the place. With any, the objects are
    not all that there is to see, and the image counts as not annotated.
    """

    uri: str  # the label file
    objects: list[AnnotatedObject] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    is_background: bool = False  # it has no label because there is nothing to label
    n_clipped: int = 0  # objects that reached over the image's border
    n_duplicates: int = 0  # objects that were given twice


class Problems:
    """Collects sentences; beyond MOST_PROBLEMS it only counts."""

    def __init__(self) -> None:
        self._sentences: list[str] = []
        self._more = 0

    def add(self, sentence: str) -> None:
        """One more mistake."""
        if len(self._sentences) < MOST_PROBLEMS:
            self._sentences.append(sentence)
        else:
            self._more += 1

    def sentences(self, place: str) -> list[str]:
        """All of them; the last may tell how many more there are at this place."""
        more = [f"{place}: {self._more:,} more mistakes"] if self._more else []
        return self._sentences + more


class LabelSource(Protocol):
    """Labels of the images of one folder, in whatever format. Images are named by their place: the
    path below the folder, with `/` between the parts.
    """

    format: str
    classes: dict[int, ClassName]

    def match(self, places: Sequence[str]) -> None:
        """Finds the labels of these images. Raises UserError when there are none."""

    def truth(self, place: str, width: int, height: int) -> ImageTruth | None:
        """What the labels say about an image of this size; None when they say nothing."""

    def split(self, place: str) -> str | None:
        """The name of the split that the labels put the image in."""

    def general_problems(self) -> list[tuple[str, str]]:
        """(file, sentence) for what is wrong with no image in particular."""

    def counts(self) -> dict[str, int]:
        """What was left over by `match`, by name."""

    def close(self) -> None:
        """Closes what is held open. Nothing can be read afterwards."""


def truth_sha256(objects: Iterable[AnnotatedObject]) -> str:
    """The hash of an image's ground truth: the same in whatever order its objects are given."""
    return hash_rows([sorted(thing.sha256() for thing in objects)])


def as_json(value: Any) -> str:
    """JSON without spaces, its numbers exact: what the columns hold."""
    return _encoder.encode(value)


def clip(value: float, size: float) -> float:
    """The value, moved to the nearest border when it lies outside [0, size]."""
    return min(max(value, 0.0), size)


def _bytes(numbers: list[float]) -> bytes:
    return np.array(numbers, dtype="<f8").tobytes()
