"""Annotations of a COCO file: boxes, polygons and masks, and what is refused."""

import json
import math
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pycocotools import mask as reference

from nearsql.pipeline.annotations.coco_objects import (
    BadValue,
    read_category,
    read_id,
    read_image,
    read_object,
)
from nearsql.pipeline.annotations.objects import AnnotatedObject, ClassName
from nearsql.pipeline.annotations.outlines import mask_and_area

# pycocotools says how it will meet numpy 3.
pytestmark = pytest.mark.filterwarnings("ignore:__array__ implementation:DeprecationWarning")

NAMES = {1: ClassName("person", "person"), 90: ClassName("toothbrush", "indoor")}
WIDTH, HEIGHT = 60, 40


def read(**values: Any) -> AnnotatedObject:
    value = {"id": 5, "image_id": 1, "category_id": 90, "iscrowd": 0, "bbox": [10, 20, 30, 10]}
    return read_object(value | values, WIDTH, HEIGHT, NAMES)[0]


def bitmap(seed: int) -> np.ndarray:
    return np.asfortranarray(np.random.default_rng(seed).integers(0, 2, (HEIGHT, WIDTH), np.uint8))


def uncompressed(values: np.ndarray) -> list[int]:
    """The counts of an RLE as COCO writes them for crowds: runs down the columns, by a plain loop."""
    counts, current, n = [], 0, 0
    for value in values.T.ravel():
        if value != current:
            counts.append(n)
            current, n = value, 0
        n += 1
    return [*counts, n]


def test_a_box() -> None:
    thing = read()
    assert thing == AnnotatedObject(90, "toothbrush", (10.0, 20.0, 40.0, 30.0))
    assert mask_and_area(thing, WIDTH, HEIGHT) == (None, 300.0)


def test_several_polygons_are_one_mask() -> None:
    polygons = [[1, 1, 20, 1, 20, 20, 1, 20], [15.5, 10, 50, 10, 50, 39.5]]
    thing = read(segmentation=polygons)
    assert thing.polygons == polygons
    assert thing.box == (10.0, 20.0, 40.0, 30.0)  # as given, not the polygons'
    mask_json, area = mask_and_area(thing, WIDTH, HEIGHT)
    expected = reference.merge(reference.frPyObjects(polygons, HEIGHT, WIDTH))
    mask = json.loads(mask_json or "")
    assert mask == {"size": [HEIGHT, WIDTH], "counts": expected["counts"].decode()}
    assert area == float(reference.area(expected))
    pieces = [reference.decode(reference.frPyObjects([p], HEIGHT, WIDTH))[..., 0] for p in polygons]
    assert area == np.maximum(*pieces).sum()
    # Without a box, the one around all points.
    assert read(segmentation=polygons, bbox=None).box == (1.0, 1.0, 50.0, 39.5)


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.booleans())
def test_masks_are_kept_pixel_by_pixel(seed: int, is_compressed: bool) -> None:
    values = bitmap(seed)
    counts: Any = uncompressed(values)
    if is_compressed:
        counts = reference.encode(values)["counts"].decode()
    thing = read(segmentation={"size": [HEIGHT, WIDTH], "counts": counts}, iscrowd=1, bbox=[])
    assert thing.is_crowd
    assert thing.rle == {
        "size": [HEIGHT, WIDTH],
        "counts": reference.encode(values)["counts"].decode(),
    }
    mask_json, area = mask_and_area(thing, WIDTH, HEIGHT)
    np.testing.assert_array_equal(reference.decode(json.loads(mask_json or "")), values)
    assert area == values.sum()
    rows, columns = np.nonzero(values)
    box = (columns.min(), rows.min(), columns.max() + 1, rows.max() + 1)
    assert thing.box == tuple(map(float, box))


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ({"category_id": 2}, "category_id 2 is not among"),
        ({"category_id": None}, "category_id null"),
        ({"category_id": 1.0}, "category_id 1.0"),
        ({"category_id": True}, "category_id true"),
        ({"category_id": [1]}, "category_id a list"),
        ({"iscrowd": 2}, "iscrowd is 2"),
        ({"iscrowd": "no"}, 'iscrowd is "no"'),
        ({"iscrowd": None}, "iscrowd is null"),
        ({"bbox": [1, 2, 3]}, "not [x, y, width, height]"),
        ({"bbox": "1 2 3 4"}, "not [x, y, width, height]"),
        ({"bbox": [1, 2, math.nan, 4]}, "holds NaN"),
        ({"bbox": [1, 2, math.inf, 4]}, "holds Infinity"),
        ({"bbox": [1, 2, 10**400, 4]}, "bbox holds 1000"),
        ({"bbox": [1, 2, "3", 4]}, 'holds "3", not a number'),
        ({"bbox": [1, 2, True, 4]}, "holds true, not a number"),
        ({"bbox": [1, 2, 0, 4]}, "0 wide and 4 high"),
        ({"bbox": [1, 2, 3, -4]}, "3 wide and -4 high"),
        ({"bbox": [-10, 2, 30, 4]}, "bbox reaches -10 on a side of 60 pixels"),
        ({"bbox": [1, 2, 3, 40]}, "bbox reaches 42 on a side of 40 pixels"),
        ({"bbox": [60.2, 2, 0.3, 4]}, "it has no area"),
        ({"bbox": None}, "neither bbox nor segmentation"),
        ({"segmentation": "polygon"}, "neither a list of polygons nor an RLE"),
        ({"segmentation": [1, 2, 3, 4, 5, 6]}, "neither a list of polygons nor an RLE"),
        ({"segmentation": [[1, 2, 3, 4]]}, "has 4 numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, 6, 7]]}, "has 7 numbers"),
        ({"segmentation": [[]]}, "has 0 numbers"),
        ({"segmentation": [[1, 2, 3, 4, 5, None]]}, "holds null"),
        ({"segmentation": [[1, 2, 3, 4, 5, 600]]}, "segmentation reaches 600"),
        ({"segmentation": [[5, 5, 5, 9, 5, 7]], "bbox": None}, "it has no area"),
        ({"segmentation": {}}, "must be a mask as COCO RLE"),
        ({"segmentation": {"size": [40, 60], "counts": None}}, "must have as its counts"),
        (
            {"segmentation": {"size": [60, 40], "counts": [2400]}},
            "40 x 60 pixels, and the image 60",
        ),
        ({"segmentation": {"size": [40, 60], "counts": [2399]}}, "runs of 2399 pixels"),
        ({"segmentation": {"size": [40, 60], "counts": [2500, -100]}}, "no run is shorter"),
        ({"segmentation": {"size": [40, 60], "counts": [2**40]}}, "must have as its counts"),
        ({"segmentation": {"size": [40, 60], "counts": [2400.0]}}, "must have as its counts"),
        ({"segmentation": {"size": [40, 60], "counts": "\ud800"}}, "characters that no RLE has"),
        ({"segmentation": {"size": [40, 60], "counts": "oooooooooo"}}, "end within a number"),
        ({"segmentation": {"size": [40, 2**40], "counts": [40]}}, "whole numbers from 1 on"),
        ({"segmentation": {"size": "40", "counts": [40]}}, "whole numbers from 1 on"),
        ({"segmentation": {"size": [40, 60], "counts": []}}, "runs of 0 pixels"),
        ({"segmentation": {"size": [40, 60], "counts": [2400]}, "bbox": None}, "it has no area"),
        ({"segmentation": [[0, 0, 60, 40, 0, 40] * 9000]}, "pixels long"),
    ],
)
def test_what_is_refused(values: dict[str, Any], sentence: str) -> None:
    with pytest.raises(BadValue) as caught:
        read(**values)
    assert sentence in str(caught.value)


ODD_NUMBERS = st.one_of(st.integers(-5, 65), st.floats(), st.integers(), st.booleans(), st.none())
ODD_SIZES = st.one_of(st.just([HEIGHT, WIDTH]), st.lists(ODD_NUMBERS, max_size=3))
ODD_COUNTS = st.one_of(st.lists(st.integers(-9, HEIGHT * WIDTH), max_size=9), st.text(max_size=20))
ODD_OUTLINES = st.one_of(
    st.lists(st.lists(ODD_NUMBERS, max_size=9), max_size=3),
    st.lists(st.lists(st.integers(0, 40), min_size=6, max_size=6), max_size=3),
    st.fixed_dictionaries({}, optional={"size": ODD_SIZES, "counts": ODD_COUNTS}),
    st.text(max_size=5),
)


@settings(deadline=None, max_examples=500)
@given(
    st.fixed_dictionaries(
        {},
        optional={
            "category_id": st.one_of(st.sampled_from(sorted(NAMES)), ODD_NUMBERS),
            "iscrowd": st.one_of(st.integers(0, 1), ODD_NUMBERS),
            "bbox": st.one_of(st.lists(st.integers(1, 20), min_size=4, max_size=4), ODD_OUTLINES),
            "segmentation": ODD_OUTLINES,
        },
    )
)
def test_whatever_an_annotation_holds_is_an_object_or_a_sentence(value: dict[str, Any]) -> None:
    try:
        thing, _ = read_object(value, WIDTH, HEIGHT, NAMES)
    except BadValue:
        return
    x_min, y_min, x_max, y_max = thing.box
    assert 0 <= x_min < x_max <= WIDTH
    assert 0 <= y_min < y_max <= HEIGHT
    mask_json, area = mask_and_area(thing, WIDTH, HEIGHT)
    assert 0 <= area <= WIDTH * HEIGHT
    if mask_json is not None:
        assert reference.decode(json.loads(mask_json)).sum() == area


def test_slightly_outside_is_the_border() -> None:
    value = {"category_id": 1, "bbox": [-0.5, 20, 61, 20.004], "segmentation": []}
    thing, is_clipped = read_object(value, WIDTH, HEIGHT, NAMES)
    assert thing.box == (0.0, 20.0, 60.0, 40.0)
    assert is_clipped
    value["bbox"] = [0, 20, 60, 20.004]  # COCO rounds to hundredths
    assert read_object(value, WIDTH, HEIGHT, NAMES)[1] is False
    value["segmentation"] = [[-0.5, 1, 30, 1, 30, 40.3]]
    thing, is_clipped = read_object(value, WIDTH, HEIGHT, NAMES)
    assert thing.polygons == [[0.0, 1.0, 30.0, 1.0, 30.0, 40.0]]
    assert is_clipped


def test_images() -> None:
    image_id, image = read_image({"id": 9, "file_name": "a/b.jpg", "width": 6, "height": 4, "x": 1})
    assert (image_id, image.file_name, image.width, image.height) == (9, "a/b.jpg", 6, 4)
    assert read_image({"id": "nine", "file_name": "b.jpg"})[1].width is None
    for value in (
        [],
        {},
        {"id": 1.5, "file_name": "a"},
        {"id": True, "file_name": "a"},
        {"id": 1},
        {"id": 1, "file_name": ""},
        {"id": 1, "file_name": "a\0b"},
        {"id": 1, "file_name": "\ud800"},
        {"id": 1, "file_name": "a" * 5000},
        {"id": 1, "file_name": "a", "width": 5},
        {"id": 1, "file_name": "a", "width": 5, "height": 0},
        {"id": 1, "file_name": "a", "width": 5.0, "height": 5},
        {"id": 1, "file_name": "a", "width": 5, "height": 2**31},
    ):
        with pytest.raises(BadValue):
            read_image(value)


def test_categories() -> None:
    assert read_category({"id": 3, "name": "car", "supercategory": "vehicle"}) == (
        3,
        ClassName("car", "vehicle"),
    )
    assert read_category({"id": 0, "name": "car", "supercategory": ""}) == (0, ClassName("car"))
    for value in (
        3,
        {"id": -1, "name": "car"},
        {"id": 2**31, "name": "car"},
        {"id": "3", "name": "car"},
        {"id": True, "name": "car"},
        {"id": 3},
        {"id": 3, "name": ""},
        {"id": 3, "name": "car", "supercategory": 4},
    ):
        with pytest.raises(BadValue):
            read_category(value)


def test_ids() -> None:
    assert read_id(7, "id") == 7
    assert read_id("7", "id") == "7"
    for value in (None, 7.0, True, [7], {}):
        with pytest.raises(BadValue, match="its id is"):
            read_id(value, "id")
