"""Masks as COCO run-length encoding (RLE): written, and read without trusting them.

An RLE is {"size": [height, width], "counts": ...}. Its counts are the lengths of runs of equal
pixels, column after column, the first of background. They come as a list of numbers or compressed
in a text: each number (from the fourth on, its difference to the one two before) as groups of 5
bits, lowest first, each group an ASCII character from '0' on, 32 added when another group follows.

pycocotools reads the same format in C code that trusts what it is given: a bad RLE makes it hang, or
write where it must not. So nothing here calls it, and nothing should that `read` has not accepted.
All work is done on runs: time and memory follow the length of an RLE, never the size it claims.
"""

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.arguments import json_value, shown, shown_json
from nearsql.udfs.errors import SqlFunctionError

MAX_PIXELS = 2**32 - 1  # what the format's C readers can count
MAX_COUNTS_LENGTH = 8 * 2**20  # characters, or numbers: millions of runs; a usual mask has hundreds
_MOST_GROUPS = 7  # of 5 bits: enough for any count up to MAX_PIXELS and its sign

Ints = NDArray[np.int64]


@dataclass(frozen=True, slots=True, eq=False)
class Mask:
    """The runs of foreground of an image: pixels [starts[i], ends[i]), numbered down the columns.

    The runs are in order, none is empty, and there is background between any two.
    """

    height: int
    width: int
    starts: Ints
    ends: Ints

    @property
    def area(self) -> int:
        """How many pixels are foreground."""
        return int((self.ends - self.starts).sum())

    def bitmap(self) -> NDArray[np.uint8]:
        """The mask as pixels (height, width), 1 for foreground. Check first that its size is the image's."""
        steps = np.zeros(self.height * self.width + 1, dtype=np.int8)
        steps[self.starts], steps[self.ends] = 1, -1
        pixels = np.cumsum(steps[:-1], dtype=np.int8).view(np.uint8)
        return pixels.reshape(self.width, self.height).T


def read_json(name: str, text: Any) -> Mask:
    """The mask in a JSON text as `predictions.mask_json` holds it. Raises SqlFunctionError."""
    if not isinstance(text, str):
        raise _not_a_mask(name, shown(text))
    return read(name, json_value(name, text))


def read(name: str, rle: Any) -> Mask:
    """The mask of an RLE, its counts a list or compressed. Raises SqlFunctionError naming what is wrong."""
    if not isinstance(rle, dict) or not {"size", "counts"} <= rle.keys():
        raise _not_a_mask(name, shown_json(rle))
    height, width = _size(name, rle["size"])
    counts = _counts(name, rle["counts"])
    if counts.size and counts.min() < 0:
        raise SqlFunctionError(
            f"{name} has a run of {counts.min()} pixels: no run is shorter than 0"
        )
    if not counts[1:].all():  # pycocotools' merge and iou stop at such a run, or go on for ever
        raise SqlFunctionError(
            f"{name} has an empty run: only the first, of background, may be empty"
        )
    # No count is large enough for the sum of those there can be to overflow.
    total = int(counts.sum())
    if total != height * width:
        raise SqlFunctionError(
            f"{name} has runs of {total} pixels, and its size is {height} x {width} = {height * width}"
        )
    borders = np.cumsum(counts)
    starts, ends = borders[0::2][: borders.size // 2], borders[1::2]
    return _mask(height, width, starts, ends)


def encode(
    bitmap: NDArray[Any], *, top: int = 0, left: int = 0, size: tuple[int, int] | None = None
) -> dict[str, Any]:
    """The RLE of a bitmap (h, w), compressed; what is not zero is foreground.

    With size (height, width), of an image of that size in which the bitmap lies at (top, left) and
    all else is background: the work is that of the bitmap, not of the image. The counts are a str,
    so that the RLE is ready for JSON; they equal those of pycocotools.mask.encode.
    """
    h, w = bitmap.shape
    height, width = size or (h, w)
    if not (0 <= top <= top + h <= height and 0 <= left <= left + w <= width):
        raise ValueError(
            f"a bitmap of {h} x {w} at ({top}, {left}) is not within {height} x {width}"
        )
    # Column after column, a pixel of background before and after each, so that every run ends.
    columns = np.zeros((w, h + 2), dtype=bool)
    columns[:, 1:-1] = bitmap.T
    pixels = columns.ravel()
    changes = np.flatnonzero(pixels[1:] != pixels[:-1])
    column, row = np.divmod(changes, h + 2)
    positions = (left + column) * height + top + row
    starts, ends = positions[0::2], positions[1::2]
    mask = _mask(height, width, starts, ends)
    borders = np.empty(2 * mask.starts.size + 2, dtype=np.int64)
    borders[0], borders[-1] = 0, height * width
    borders[1:-1:2], borders[2:-1:2] = mask.starts, mask.ends
    counts = np.diff(borders)
    if counts.size > 1 and counts[-1] == 0:  # foreground to the last pixel: nothing follows
        counts = counts[:-1]
    return {"size": [height, width], "counts": _compress(counts)}


def intersection(a: Mask, b: Mask) -> int:
    """How many pixels are foreground in both masks, which must be of one size."""
    return int((_covered(a, b.ends) - _covered(a, b.starts)).sum())


def _covered(mask: Mask, positions: Ints) -> Ints:
    """For each position, how many pixels before it are foreground."""
    area_before = np.concatenate(([0], np.cumsum(mask.ends - mask.starts)))
    begun = np.searchsorted(mask.starts, positions, side="right")
    last_end = np.concatenate(([0], mask.ends))[begun]
    return area_before[begun] - np.maximum(last_end - positions, 0)


def _mask(height: int, width: int, starts: Ints, ends: Ints) -> Mask:
    """The mask of runs in order, some of which may be empty or touch."""
    filled = ends > starts
    starts, ends = starts[filled], ends[filled]
    apart = starts[1:] > ends[:-1]
    return Mask(
        height,
        width,
        starts[np.concatenate(([True], apart))] if starts.size else starts,
        ends[np.concatenate((apart, [True]))] if ends.size else ends,
    )


def _not_a_mask(name: str, its_value: str) -> SqlFunctionError:
    return SqlFunctionError(
        f'{name} must be a mask as COCO RLE, {{"size": [height, width], "counts": ...}}, not {its_value}'
    )


def _size(name: str, size: Any) -> tuple[int, int]:
    if (
        not isinstance(size, list | tuple)
        or len(size) != 2
        or not all(type(side) is int and side >= 1 for side in size)
        or size[0] * size[1] > MAX_PIXELS
    ):
        raise SqlFunctionError(
            f"{name} must have as its size [height, width], whole numbers from 1 on with a product"
            f" of at most {MAX_PIXELS}, not {shown_json(size)}"
        )
    return size[0], size[1]


def _counts(name: str, counts: Any) -> Ints:
    if isinstance(counts, str | list) and len(counts) > MAX_COUNTS_LENGTH:
        raise SqlFunctionError(
            f"{name} has counts of length {len(counts)}, and masks of at most {MAX_COUNTS_LENGTH} are read"
        )
    if isinstance(counts, str):
        return _decompress(name, counts)
    if not isinstance(counts, list) or not all(
        type(count) is int and abs(count) <= MAX_PIXELS for count in counts
    ):
        raise SqlFunctionError(
            f"{name} must have as its counts a text, or an array of whole numbers of at most"
            f" {MAX_PIXELS}, not {shown_json(counts)}"
        )
    return np.array(counts, dtype=np.int64)


def _decompress(name: str, text: str) -> Ints:
    """The counts in a compressed text, which may still be negative."""
    if not text:
        return np.zeros(0, dtype=np.int64)
    if not re.fullmatch("[0-o]+", text):  # 64 characters
        raise SqlFunctionError(f"{name} has counts with characters that no RLE has: {shown(text)}")
    codes = np.frombuffer(text.encode("ascii"), dtype=np.uint8).astype(np.int64) - ord("0")
    is_last = (codes & 32) == 0
    if not is_last[-1]:
        raise SqlFunctionError(f"{name} has counts that end within a number: {shown(text)}")
    ends = np.flatnonzero(is_last) + 1
    starts = np.concatenate(([0], ends))[:-1]
    groups = ends - starts
    if groups.max() > _MOST_GROUPS:
        raise SqlFunctionError(
            f"{name} has counts with a number too large for any mask: {shown(text)}"
        )
    shifts = 5 * (np.arange(codes.size) - np.repeat(starts, groups))
    values = np.add.reduceat((codes & 31) << shifts, starts)
    is_negative = (codes[ends - 1] & 16) != 0  # two's complement, of as many bits as there are
    values -= np.where(is_negative, np.int64(1) << (5 * groups), 0)
    values[1::2] = np.cumsum(values[1::2])  # at most 2^35 * 2^23: far from overflowing
    values[2::2] = np.cumsum(values[2::2])
    if np.abs(values).max() > MAX_PIXELS:
        raise SqlFunctionError(
            f"{name} has counts with a number too large for any mask: {shown(text)}"
        )
    return values


def _compress(counts: Ints) -> str:
    """The counts as compressed text."""
    values = counts.copy()
    values[3:] -= counts[1:-2]
    most = int(np.abs(values).max()).bit_length() // 5 + 1  # groups that the largest number takes
    order = np.arange(most)
    groups = values[:, None] >> (5 * order)
    # A group is the last when what remains of the number is its sign, which its top bit says, too.
    last = ((groups >= -16) & (groups < 16)).argmax(axis=1)[:, None]
    written, more = order <= last, order < last
    codes = (groups & 31) + 32 * more + ord("0")
    return codes[written].astype(np.uint8).tobytes().decode("ascii")
