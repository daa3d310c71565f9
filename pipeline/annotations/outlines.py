"""Outlines as masks: polygons and COCO RLE to the pixels they cover."""

from collections.abc import Sequence
from typing import Any

import numpy as np

from nearsql.pipeline.annotations.objects import AnnotatedObject, as_json
from nearsql.udfs import rle as checked
from nearsql.udfs.errors import SqlFunctionError

# pycocotools walks along an outline in steps of a fifth of a pixel and keeps every step in memory:
# this bounds it to some 100 MB. An outline around all of a 100-megapixel image has 40,000.
MOST_OUTLINE_PIXELS = 1_000_000


class BadOutline(Exception):
    """The outline cannot be drawn; the sentence says why."""


def check_length(polygons: Sequence[Sequence[float]], width: int, height: int) -> None:
    """Raises BadOutline for polygons whose drawing would take a hostile amount of memory."""
    if sum(map(len, polygons)) // 2 * max(width, height) <= MOST_OUTLINE_PIXELS:
        return
    length = 0.0
    for polygon in polygons:
        points = np.asarray(polygon).reshape(-1, 2)
        steps = np.abs(np.diff(points, axis=0, append=points[:1]))
        length += float(steps.max(axis=1).sum())
    if length > MOST_OUTLINE_PIXELS:
        raise BadOutline(
            f"its outline is {length:,.0f} pixels long; at most {MOST_OUTLINE_PIXELS:,} are drawn"
        )


def mask_and_area(thing: AnnotatedObject, width: int, height: int) -> tuple[str | None, float]:
    """The object's mask as COCO RLE in JSON, and its area in pixels.

    Of polygons, the union, drawn as pycocotools draws them. Without an outline there is no mask, and
    the area is the box's.
    """
    from pycocotools import mask

    if thing.rle is not None:
        rle = thing.rle
    elif thing.polygons is not None:
        rle = _as_text(mask.merge(mask.frPyObjects(thing.polygons, height, width)))
    else:
        x_min, y_min, x_max, y_max = thing.box
        return None, (x_max - x_min) * (y_max - y_min)
    return as_json(rle), float(mask.area(rle))


def compressed(rle: Any, width: int, height: int) -> dict[str, Any]:
    """A COCO RLE as pycocotools would compress it, its counts a str. Raises BadOutline for a bad one.

    Nothing reaches pycocotools, which trusts its input, before it has been checked.
    """
    from pycocotools import mask

    try:
        drawn = checked.read("its segmentation", rle)
    except SqlFunctionError as error:
        raise BadOutline(str(error)) from None
    if (drawn.height, drawn.width) != (height, width):
        raise BadOutline(
            f"its mask is {drawn.width} x {drawn.height} pixels, and the image {width} x {height}"
        )
    if isinstance(rle["counts"], list):
        return _as_text(mask.frPyObjects(rle, height, width))
    return _as_text(mask.merge([rle]))


def box_of(rle: dict[str, Any]) -> tuple[float, float, float, float]:
    """The box around a checked mask: x_min, y_min, x_max, y_max."""
    from pycocotools import mask

    x, y, width, height = map(float, mask.toBbox(rle))
    return x, y, x + width, y + height


def _as_text(rle: dict[str, Any]) -> dict[str, Any]:
    return {"size": [int(side) for side in rle["size"]], "counts": rle["counts"].decode("ascii")}
