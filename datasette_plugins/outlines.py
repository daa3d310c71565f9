"""The outline of a mask as an SVG path: what is drawn is the mask itself, its steps and holes included."""

import json
from typing import Any

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs import rle

# Across and down, in steps of the drawing: an outline need not be finer than the image is shown.
MOST_STEPS = 800


def outline(mask: rle.Mask, most_steps: int = MOST_STEPS) -> tuple[str, int]:
    """The path of the mask's edges, and how many pixels one unit of it is long.

    Of a mask of more than most_steps pixels across or down, every second (third, ...) row and column
    is looked at. To be filled by the even-odd rule. The path of an empty mask is "".
    """
    step = -(-max(mask.height, mask.width) // most_steps)
    bitmap, top, left = _sampled(mask, step)
    return _path(bitmap, top, left), step


def polygons_path(text: str) -> str | None:
    """The path of outlines as `annotations.polygons_json` holds them: [[x, y, x, y, ...], ...].

    None when the text is something else.
    """
    return (
        "".join(
            "M"
            + "L".join(f"{x:.6g} {y:.6g}" for x, y in zip(each[0::2], each[1::2], strict=True))
            + "z"
            for each in _polygons(text)
        )
        or None
    )


def polygons_bounds(text: str) -> tuple[float, float, float, float]:
    """Where such outlines lie: x, y, width, height."""
    xs = [x for each in _polygons(text) for x in each[0::2]]
    ys = [y for each in _polygons(text) for y in each[1::2]]
    return min(xs), min(ys), max(xs) - min(xs), max(ys) - min(ys)


def _polygons(text: str) -> list[list[float]]:
    try:
        polygons = json.loads(text)
    except (ValueError, RecursionError):
        return []
    if not isinstance(polygons, list) or not all(_is_polygon(each) for each in polygons):
        return []
    return polygons


def _is_polygon(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 6
        and len(value) % 2 == 0
        and all(type(n) in (int, float) and abs(n) < 1e9 for n in value)
    )


def _sampled(mask: rle.Mask, step: int) -> tuple[NDArray[np.bool_], int, int]:
    """Each step-th row and column of the mask, cut to what is filled, and where the cut begins.

    Only runs are looked at, never pixels: work and memory follow the bitmap, not the size that the
    mask claims.
    """
    if not mask.starts.size:
        return np.zeros((0, 0), dtype=bool), 0, 0
    first, last = int(mask.starts[0] // mask.height), int((mask.ends[-1] - 1) // mask.height)
    columns = np.arange(-(-first // step), last // step + 1, dtype=np.int64)
    rows = np.arange(-(-mask.height // step), dtype=np.int64)
    pixels = columns[:, None] * (step * mask.height) + rows * step
    runs = np.searchsorted(mask.starts, pixels, side="right") - 1
    filled = (runs >= 0) & (pixels < mask.ends[runs])
    across, down = np.flatnonzero(filled.any(axis=1)), np.flatnonzero(filled.any(axis=0))
    if not across.size:
        return np.zeros((0, 0), dtype=bool), 0, 0
    cut = filled[across[0] : across[-1] + 1, down[0] : down[-1] + 1].T
    return cut, int(down[0]), int(columns[0] + across[0])


def _path(bitmap: NDArray[np.bool_], top: int, left: int) -> str:
    """The edges between what is filled and what is not, as closed lines from corner to corner."""
    y, x = _corners(bitmap)
    if not y.size:
        return ""
    # In each row of corners, the first is joined with the second, the third with the fourth, ...; in
    # each column alike. An edge between two such lines goes across, then down, then across.
    order = np.lexsort((x, y))
    beside = np.empty(order.size, dtype=np.int64)
    beside[order[0::2]], beside[order[1::2]] = order[1::2], order[0::2]
    order = np.lexsort((y, x))
    below = np.empty(order.size, dtype=np.int64)
    below[order[0::2]], below[order[1::2]] = order[1::2], order[0::2]
    xs, ys = (x + left).tolist(), (y + top).tolist()
    across, down = beside.tolist(), below.tolist()
    seen = [False] * len(xs)
    parts = []
    for start in range(len(xs)):
        if seen[start]:
            continue
        parts.append(f"M{xs[start]} {ys[start]}")
        corner = start
        while not seen[corner]:
            other = across[corner]
            seen[corner] = seen[other] = True
            following = down[other]
            parts.append(f"h{xs[other] - xs[corner]}v{ys[following] - ys[other]}")
            corner = following
        parts.append("z")
    return "".join(parts)


def _corners(bitmap: NDArray[np.bool_]) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """(y, x) of the corners, row by row; where two filled pixels touch only there, twice."""
    h, w = bitmap.shape
    padded = np.zeros((h + 2, w + 2), dtype=np.int8)
    padded[1:-1, 1:-1] = bitmap
    a, b, c, d = padded[:-1, :-1], padded[:-1, 1:], padded[1:, :-1], padded[1:, 1:]
    times = (a + b + c + d) % 2 + 2 * ((a == d) & (b == c) & (a != b))
    y, x = np.nonzero(times)
    n = times[y, x]
    return np.repeat(y, n).astype(np.int64), np.repeat(x, n).astype(np.int64)
