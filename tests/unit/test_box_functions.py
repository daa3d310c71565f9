"""box_iou, mask_iou, mask_dice and mask_area in SQL."""

import json
import math
import sqlite3
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from nearsql.udfs import box_functions, dbapi, rle
from nearsql.udfs.errors import SqlFunctionError

MASK = '{"size": [2, 4], "counts": [0, 4, 4]}'
EMPTY = '{"size": [2, 4], "counts": [8]}'

corners = st.tuples(st.integers(0, 9), st.integers(0, 9), st.integers(0, 6), st.integers(0, 6))


def value(db: dbapi.Connection, sql: str, *parameters: Any) -> Any:
    return db.execute(sql, parameters).fetchone()[0]


@settings(deadline=None)
@given(corners, corners)
def test_box_iou_counts_the_cells_of_the_grid(
    first: tuple[int, ...], second: tuple[int, ...]
) -> None:
    drawn, boxes = [], []
    for x, y, width, height in (first, second):
        grid = np.zeros((15, 15), bool)
        grid[y : y + height, x : x + width] = True
        drawn.append(grid)
        boxes += [x, y, x + width, y + height]
    union = (drawn[0] | drawn[1]).sum()
    expected = (drawn[0] & drawn[1]).sum() / union if union else None
    got = box_functions.box_iou(*boxes)
    assert got == expected if expected is None else got == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(corners, corners)
def test_box_iou_is_that_of_pycocotools(first: tuple[int, ...], second: tuple[int, ...]) -> None:
    (x, y, width, height), (u, v, w, h) = first, second
    got = box_functions.box_iou(x, y, x + width, y + height, u, v, u + w, v + h)
    expected = coco.iou(np.array([first], float), np.array([second], float), [0])[0, 0]
    assert (got or 0.0) == pytest.approx(expected, abs=1e-12)


@settings(deadline=None)
@given(st.data())
def test_mask_functions_count_the_pixels(data: st.DataObject) -> None:
    shape = data.draw(st.tuples(st.integers(1, 8), st.integers(1, 8)))
    a, b = (data.draw(arrays.arrays(np.uint8, shape, elements=st.integers(0, 1))) for _ in range(2))
    first, second = (json.dumps(rle.encode(bitmap)) for bitmap in (a, b))
    common, both, union = int((a & b).sum()), int(a.sum() + b.sum()), int((a | b).sum())
    iou, dice = box_functions.mask_iou(first, second), box_functions.mask_dice(first, second)
    assert box_functions.mask_area(first) == a.sum()
    if not union:
        assert iou is dice is None
    else:
        assert iou == common / union
        assert dice == 2 * common / both
        assert iou <= dice
        by_coco = coco.iou([json.loads(first)], [json.loads(second)], [0])[0, 0]
        assert iou == pytest.approx(by_coco, abs=1e-12)


def test_examples_in_sql(db: dbapi.Connection) -> None:
    assert value(db, "select box_iou(0, 0, 10, 10, 5, 0, 15, 10)") == pytest.approx(1 / 3)
    assert value(db, "select box_iou(0, 0, 10, 10, 0, 0, 10, 10)") == 1
    other = '{"size": [2, 4], "counts": [2, 4, 2]}'
    assert value(db, "select mask_iou(?, ?)", MASK, other) == pytest.approx(1 / 3)
    assert value(db, "select mask_dice(?, ?)", MASK, other) == 0.5
    assert value(db, "select mask_area(?)", MASK) == 4


def test_null_gives_null(db: dbapi.Connection) -> None:
    for place in range(8):
        values = ["0", "0", "1", "1"] * 2
        values[place] = "null"
        assert value(db, f"select box_iou({', '.join(values)})") is None
    row = db.execute(
        "select mask_iou(null, ?1), mask_iou(?1, null), mask_dice(null, ?1), mask_dice(?1, null),"
        " mask_area(null)",
        (MASK,),
    ).fetchone()
    assert tuple(row) == (None,) * 5


def test_what_has_no_area_has_no_overlap_to_speak_of(db: dbapi.Connection) -> None:
    assert value(db, "select box_iou(1, 1, 1, 5, 1, 1, 1, 5)") is None
    assert value(db, "select box_iou(1, 1, 1, 5, 0, 0, 5, 5)") == 0
    assert value(db, "select mask_iou(?1, ?1)", EMPTY) is None
    assert value(db, "select mask_dice(?1, ?1)", EMPTY) is None
    assert value(db, "select mask_iou(?, ?)", EMPTY, MASK) == 0
    assert value(db, "select mask_dice(?, ?)", MASK, EMPTY) == 0


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("box_iou(5, 0, 1, 1, 0, 0, 1, 1)", "box a must be .* no maximum below its minimum"),
        ("box_iou(0, 0, 1, 1, 0, 5, 1, 1)", "box b must be"),
        ("box_iou(0, 0, 1, 1, 0, 0, 'x', 1)", "x_max_b must be a finite number, not 'x'"),
        ("box_iou(0, 0, 9e999, 1, 0, 0, 1, 1)", "x_max_a must be a finite number"),
        ("box_iou(0, 0, 1e300, 1e300, 0, 0, 1, 1)", "too large"),
        ("box_iou(-1e308, 0, 1e308, 1, -1e308, 0, 1e308, 1)", "too large"),
        ("box_iou(0, 0, 1, 1)", "box_iou: .* call it as box_iou"),
        ("mask_iou('x', 'y')", "mask_iou: a is not valid JSON"),
        (f"mask_iou('{MASK}', 3)", "b must be a mask as COCO RLE"),
        (f"mask_dice('{MASK}', x'00')", "b must be a mask as COCO RLE.*not a BLOB of 1 bytes"),
        (f"mask_dice('{MASK}', '{{\"size\": [4, 2], \"counts\": [8]}}')", "not 2 x 4 and 4 x 2"),
        ('mask_area(\'{"size": [2, 2], "counts": [9]}\')', "mask_area: mask has runs of 9"),
    ],
)
def test_bad_arguments_are_refused_with_a_sentence(
    db: dbapi.Connection, sql: str, sentence: str
) -> None:
    with pytest.raises(sqlite3.OperationalError, match=sentence):
        db.execute(f"select {sql}").fetchall()


@settings(deadline=None)
@given(st.lists(st.floats(allow_nan=False, allow_infinity=False), min_size=8, max_size=8))
def test_any_numbers_give_a_share_or_a_sentence(numbers: list[float]) -> None:
    try:
        got = box_functions.box_iou(*numbers)
    except SqlFunctionError:
        return
    assert got is None or (math.isfinite(got) and 0 <= got <= 1)
