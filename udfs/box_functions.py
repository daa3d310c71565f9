"""SQL functions that compare boxes, and masks as COCO RLE: how much two objects overlap."""

from typing import Any

from nearsql.udfs import rle
from nearsql.udfs.arguments import number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError

Box = tuple[float, float, float, float]


@sql_function(example="select box_iou(0, 0, 10, 10, 5, 0, 15, 10)")
def box_iou(
    x_min_a: float | None,
    y_min_a: float | None,
    x_max_a: float | None,
    y_max_a: float | None,
    x_min_b: float | None,
    y_min_b: float | None,
    x_max_b: float | None,
    y_max_b: float | None,
) -> float | None:
    """Intersection over union of two boxes, from 0 (apart) to 1 (the same).

    NULL if any coordinate is, or if neither box has an area. A box whose maximum lies below its
    minimum is refused.
    """
    values = (x_min_a, y_min_a, x_max_a, y_max_a, x_min_b, y_min_b, x_max_b, y_max_b)
    if any(value is None for value in values):
        return None
    a, b = _box("a", values[:4]), _box("b", values[4:])
    width = min(a[2], b[2]) - max(a[0], b[0])
    height = min(a[3], b[3]) - max(a[1], b[1])
    common = width * height if width > 0 and height > 0 else 0.0
    union = _area(a) + _area(b) - common
    if not union < float("inf"):  # too large, or the difference of two infinities
        raise SqlFunctionError("these boxes are too large for their areas to be computed")
    return common / union if union > 0 else None


def _box(name: str, values: tuple[Any, ...]) -> Box:
    """The coordinates of one box, checked."""
    sides = ("x_min", "y_min", "x_max", "y_max")
    x_min, y_min, x_max, y_max = (
        number(f"{side}_{name}", value) for side, value in zip(sides, values, strict=True)
    )
    if x_max < x_min or y_max < y_min:
        raise SqlFunctionError(
            f"box {name} must be x_min, y_min, x_max, y_max with no maximum below its minimum,"
            f" not {x_min}, {y_min}, {x_max}, {y_max}"
        )
    return x_min, y_min, x_max, y_max


def _area(box: Box) -> float:
    return (box[2] - box[0]) * (box[3] - box[1])


@sql_function(
    example="""
    select mask_iou('{"size": [2, 4], "counts": [0, 4, 4]}',
                    '{"size": [2, 4], "counts": [2, 4, 2]}') as iou
    """
)
def mask_iou(a: str | None, b: str | None) -> float | None:
    """Intersection over union of two masks, from 0 (apart) to 1 (the same).

    A mask is COCO RLE as JSON, its counts compressed or not, as in `predictions.mask_json` and
    `annotations.mask_json`. NULL if either is, or if both are empty. Masks of different sizes are
    refused.
    """
    if a is None or b is None:
        return None
    area_a, area_b, common = _areas(a, b)
    union = area_a + area_b - common
    return common / union if union else None


@sql_function(
    example="""
    select mask_dice('{"size": [2, 4], "counts": [0, 4, 4]}',
                     '{"size": [2, 4], "counts": [2, 4, 2]}') as dice
    """
)
def mask_dice(a: str | None, b: str | None) -> float | None:
    """The Dice coefficient of two masks: twice their intersection over the sum of their areas.

    From 0 (apart) to 1 (the same); never below `mask_iou`. NULL if either is, or if both are empty.
    Masks of different sizes are refused.
    """
    if a is None or b is None:
        return None
    area_a, area_b, common = _areas(a, b)
    return 2 * common / (area_a + area_b) if area_a + area_b else None


@sql_function(example="""select mask_area('{"size": [2, 4], "counts": [2, 5, 1]}')""")
def mask_area(mask: str | None) -> int | None:
    """How many pixels a mask (COCO RLE as JSON) covers. NULL gives NULL."""
    return None if mask is None else rle.read_json("mask", mask).area


def _areas(a: str, b: str) -> tuple[int, int, int]:
    """(area of a, area of b, area of their intersection)."""
    mask_a, mask_b = rle.read_json("a", a), rle.read_json("b", b)
    if (mask_a.height, mask_a.width) != (mask_b.height, mask_b.width):
        raise SqlFunctionError(
            f"a and b must be masks of one size, not {mask_a.height} x {mask_a.width} and"
            f" {mask_b.height} x {mask_b.width}"
        )
    return mask_a.area, mask_b.area, rle.intersection(mask_a, mask_b)
