"""The values of a COCO instances file: an image, a category, an annotation, each checked."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from nearsql.pipeline.annotations.objects import (
    LARGEST_CLASS_ID,
    TOLERANCE,
    AnnotatedObject,
    ClassName,
    clip,
)
from nearsql.pipeline.annotations.outlines import BadOutline, box_of, check_length, compressed

_LONGEST_TEXT = 4096

Id = int | str


class BadValue(Exception):
    """The value is none that COCO has; the sentence says why."""


@dataclass(frozen=True, slots=True)
class CocoImage:
    """An image of the file. Its size is None where the file does not say."""

    file_name: str
    width: int | None
    height: int | None


def read_id(value: Any, name: str) -> Id:
    """An id as it may stand in the file: a number or a text. Raises BadValue."""
    if type(value) is int or isinstance(value, str):
        return value
    raise BadValue(f"its {name} is {_shown(value)}, not a whole number")


def read_image(value: Any) -> tuple[Id, CocoImage]:
    """The image's id and the image. Raises BadValue."""
    value = _mapping(value)
    image_id = read_id(value.get("id"), "id")
    file_name = _text(value.get("file_name"), "file_name")
    sides = [value.get("width"), value.get("height")]
    if sides != [None, None] and not all(type(s) is int and 0 < s < 2**31 for s in sides):
        raise BadValue(f"its size is {_shown(sides[0])} x {_shown(sides[1])}")
    return image_id, CocoImage(file_name, *sides)


def read_category(value: Any) -> tuple[int, ClassName]:
    """The category's id and its names. Raises BadValue."""
    value = _mapping(value)
    class_id = value.get("id")
    if type(class_id) is not int or not 0 <= class_id <= LARGEST_CLASS_ID:
        raise BadValue(f"its id is {_shown(class_id)}, not a whole number from 0 on")
    supercategory = value.get("supercategory")
    if supercategory is not None and supercategory != "":
        supercategory = _text(supercategory, "supercategory")
    return class_id, ClassName(_text(value.get("name"), "name"), supercategory or None)


def read_object(
    value: Mapping[str, Any], width: int, height: int, classes: Mapping[int, ClassName]
) -> tuple[AnnotatedObject, bool]:
    """The object of an annotation on an image of this size, and whether it reached over its border.

    classes: the names by category id; another id is refused. The box is the one that is given, or
    else the one around the outline. Raises BadValue.
    """
    class_id = value.get("category_id")
    if type(class_id) is not int or class_id not in classes:
        raise BadValue(f"its category_id {_shown(class_id)} is not among the categories")
    is_crowd = value.get("iscrowd", 0)
    if is_crowd not in (0, 1) or isinstance(is_crowd, float):
        raise BadValue(f"its iscrowd is {_shown(is_crowd)}, not 0 or 1")
    try:
        drawn, rle = _outline(value.get("segmentation"), width, height)
        polygons = None if drawn is None else [_clipped(p, width, height) for p in drawn]
        if polygons is not None:
            check_length(polygons, width, height)
    except BadOutline as error:
        raise BadValue(str(error)) from None
    box, is_clipped = _box(value.get("bbox"), polygons, rle, width, height)
    thing = AnnotatedObject(
        class_id, classes[class_id].name, box, polygons, rle, is_crowd=bool(is_crowd)
    )
    return thing, is_clipped or polygons != drawn


def _outline(
    value: Any, width: int, height: int
) -> tuple[list[list[float]] | None, dict[str, Any] | None]:
    """The outline as polygons or as a compressed RLE; neither when there is none."""
    if value is None or value == []:
        return None, None
    if isinstance(value, dict):
        return None, compressed(value, width, height)
    if not isinstance(value, list) or not all(isinstance(polygon, list) for polygon in value):
        raise BadValue(
            f"its segmentation is {_shown(value)}, neither a list of polygons nor an RLE"
        )
    polygons = []
    for polygon in value:
        if len(polygon) < 6 or len(polygon) % 2:
            raise BadValue(
                f"a polygon of its segmentation has {len(polygon):,} numbers;"
                " three points or more have an even number from 6 on"
            )
        points = _numbers(polygon, "segmentation")
        _check_range(points[0::2], width, "segmentation")
        _check_range(points[1::2], height, "segmentation")
        polygons.append(points)
    return polygons, None


def _box(
    value: Any,
    polygons: list[list[float]] | None,
    rle: dict[str, Any] | None,
    width: int,
    height: int,
) -> tuple[tuple[float, float, float, float], bool]:
    is_clipped = False
    if value is not None and value != []:
        if not isinstance(value, list) or len(value) != 4:
            raise BadValue(f"its bbox is {_shown(value)}, not [x, y, width, height]")
        x, y, w, h = _numbers(value, "bbox")
        if w <= 0 or h <= 0:
            raise BadValue(f"its bbox is {w:.6g} wide and {h:.6g} high, and so holds nothing")
        _check_range([x, x + w], width, "bbox")
        _check_range([y, y + h], height, "bbox")
        drawn = (x, y, x + w, y + h)
        x_min, y_min, x_max, y_max = _clipped(list(drawn), width, height)
        # Hundredths of pixels are how COCO rounds.
        is_clipped = x < -0.01 or y < -0.01 or x + w > width + 0.01 or y + h > height + 0.01
    elif polygons is not None:
        xs = [x for polygon in polygons for x in polygon[0::2]]
        ys = [y for polygon in polygons for y in polygon[1::2]]
        x_min, y_min, x_max, y_max = min(xs), min(ys), max(xs), max(ys)
    elif rle is not None:
        x_min, y_min, x_max, y_max = box_of(rle)
    else:
        raise BadValue("it has neither bbox nor segmentation")
    if x_min >= x_max or y_min >= y_max:
        raise BadValue("within the image it has no area")
    return (x_min, y_min, x_max, y_max), is_clipped


def _numbers(values: list[Any], name: str) -> list[float]:
    for value in values:
        if type(value) not in (int, float):
            raise BadValue(f"its {name} holds {_shown(value)}, not a number")
        if not -1e9 < value < 1e9:  # nor NaN
            raise BadValue(f"its {name} holds {_shown(value)}")
    return [float(value) for value in values]


def _check_range(values: list[float], size: int, name: str) -> None:
    lowest, highest = min(values), max(values)
    if lowest < -TOLERANCE * size or highest > (1 + TOLERANCE) * size:
        wrong = lowest if lowest < -TOLERANCE * size else highest
        raise BadValue(f"its {name} reaches {wrong:.6g} on a side of {size:,} pixels")


def _clipped(points: list[float], width: int, height: int) -> list[float]:
    sides = (float(width), float(height))
    return [clip(value, sides[index % 2]) for index, value in enumerate(points)]


def _mapping(value: Any) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BadValue(f"it is {_shown(value)}, not an object")
    return value


def _text(value: Any, name: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= _LONGEST_TEXT or "\0" in value:
        raise BadValue(f"its {name} is {_shown(value)}, not a text")
    try:
        value.encode()
    except UnicodeEncodeError:
        raise BadValue(f"its {name} is not valid Unicode") from None
    return value


def _shown(value: Any) -> str:
    """The value as JSON, in ASCII and shortened; of a list or an object only what it is."""
    if isinstance(value, list | dict):
        return "a list" if isinstance(value, list) else "an object"
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
