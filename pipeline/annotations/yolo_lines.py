"""The lines of a YOLO label file: `class cx cy w h`, or `class x1 y1 x2 y2 x3 y3 ...`.

All coordinates are parts of the image's width and height. What is refused is what ultralytics
refuses (`ultralytics.data.utils.verify_image_label`), line by line instead of the whole file.
"""

import math
import os
from collections.abc import Mapping
from itertools import cycle

from nearsql.pipeline.annotations.objects import (
    LARGEST_CLASS_ID,
    TOLERANCE,
    AnnotatedObject,
    ClassName,
    ImageTruth,
    Problems,
    clip,
)
from nearsql.pipeline.annotations.outlines import BadOutline, check_length

_BOX_COLUMNS = 5
_FEWEST_POLYGON_COLUMNS = 7  # the class and three points


class _BadLine(Exception):
    """The line is no object; the sentence says why."""


def parse(
    data: bytes, uri: str, width: int, height: int, classes: Mapping[int, ClassName]
) -> ImageTruth:
    """The objects of a label file, for an image of this size.

    classes: the names by class number; a number that is not among them is refused, unless there are
    none at all. Lines that say the same are one object. A file of polygons has polygons alone: in it,
    a line of five columns is refused, as it might be a box or two points.
    """
    truth = ImageTruth(uri)
    problems = Problems()
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        truth.problems = [f"{_name(uri)}: it is not UTF-8 text (byte {error.start:,})"]
        return truth
    lines = [(number, line.split()) for number, line in enumerate(text.splitlines(), start=1)]
    has_polygons = any(len(columns) > _BOX_COLUMNS + 1 for _, columns in lines)
    seen: set[tuple[float, ...]] = set()
    for number, columns in lines:
        if not columns:
            continue
        try:
            class_id, coordinates = _numbers(columns, has_polygons, classes)
            key = (class_id, *coordinates)
            if key in seen:
                truth.n_duplicates += 1
                continue
            thing, is_clipped = _object(class_id, coordinates, width, height, classes)
        except (_BadLine, BadOutline) as error:
            problems.add(f"{_name(uri)} line {number}: {error}")
            continue
        seen.add(key)
        truth.objects.append(thing)
        truth.n_clipped += is_clipped
    truth.problems = problems.sentences(_name(uri))
    return truth


def _numbers(
    columns: list[str], has_polygons: bool, classes: Mapping[int, ClassName]
) -> tuple[int, list[float]]:
    """The line's class number and its coordinates, which lie in the image or hardly outside."""
    n = len(columns)
    if n != _BOX_COLUMNS and (n < _FEWEST_POLYGON_COLUMNS or n % 2 == 0):
        raise _BadLine(
            f"it has {n:,} column{'' if n == 1 else 's'}; a box has 5, a polygon an odd number from 7 on"
        )
    if n == _BOX_COLUMNS and has_polygons:
        raise _BadLine("it is a box in a file of polygons, and ultralytics takes no such mixture")
    values = _values(columns)
    class_id, coordinates = _class_id(columns[0], values[0], classes), values[1:]
    lowest, highest = min(coordinates), max(coordinates)
    if lowest < -TOLERANCE or highest > 1 + TOLERANCE:
        wrong = lowest if lowest < -TOLERANCE else highest
        raise _BadLine(f"the coordinate {wrong:.6g} is not a part of the image's side, 0 to 1")
    return class_id, coordinates


def _values(columns: list[str]) -> list[float]:
    line = "".join(columns)
    # Python also reads 1_000 and the digits of other scripts, which no tool writes here.
    if line.isascii() and "_" not in line:
        try:
            values = list(map(float, columns))
        except ValueError:
            values = [math.nan]
        if math.isfinite(sum(values)) or all(map(math.isfinite, values)):
            return values
    wrong = next(column for column in columns if not _is_number(column))
    raise _BadLine(f"{wrong[:40]!r} is not a number")


def _is_number(column: str) -> bool:
    try:
        return column.isascii() and "_" not in column and math.isfinite(float(column))
    except ValueError:
        return False


def _class_id(column: str, value: float, classes: Mapping[int, ClassName]) -> int:
    if not value.is_integer() or not 0 <= value <= LARGEST_CLASS_ID:
        raise _BadLine(f"{column[:40]!r} is not a class number, 0, 1, 2, ...")
    if classes and int(value) not in classes:
        raise _BadLine(f"class {int(value)} is not among the {len(classes):,} classes with names")
    return int(value)


def _object(
    class_id: int,
    coordinates: list[float],
    width: int,
    height: int,
    classes: Mapping[int, ClassName],
) -> tuple[AnnotatedObject, bool]:
    """The object in pixels, and whether it reached over the border."""
    polygons = None
    if len(coordinates) == _BOX_COLUMNS - 1:
        cx, cy, w, h = coordinates
        if w <= 0 or h <= 0:
            raise _BadLine(f"the box is {w:.6g} wide and {h:.6g} high, and so holds nothing")
        drawn = [cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2]
        # A border of 1.0000001 is a rounded 1, not a box that was cut.
        is_clipped = min(drawn) < -1e-6 or max(drawn) > 1 + 1e-6
    else:
        drawn = coordinates
        is_clipped = min(drawn) < 0 or max(drawn) > 1
    sides = (float(width), float(height))
    if min(drawn) < 0 or max(drawn) > 1:
        drawn = [clip(value, 1.0) for value in drawn]
    points = [value * side for value, side in zip(drawn, cycle(sides), strict=False)]
    box = (min(points[0::2]), min(points[1::2]), max(points[0::2]), max(points[1::2]))
    if box[0] >= box[2] or box[1] >= box[3]:
        raise _BadLine("within the image it has no area")
    if len(coordinates) > _BOX_COLUMNS - 1:
        polygons = [points]
        check_length(polygons, width, height)
    name = classes.get(class_id)
    return AnnotatedObject(class_id, name.name if name else None, box, polygons), is_clipped


def _name(uri: str) -> str:
    return os.path.basename(uri)
