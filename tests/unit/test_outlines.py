"""Outlines of masks: filled, they are the mask again, pixel for pixel; and they cost what is drawn, not claimed."""

import json
import re
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from nearsql.datasette_plugins.outlines import outline, polygons_bounds, polygons_path
from nearsql.udfs import rle


def filled(path: str, height: int, width: int) -> np.ndarray:
    """The pixels that a path of h and v lines covers by the even-odd rule."""
    crossings = np.zeros((height, width + 1), dtype=int)
    for line in path.split("M")[1:]:
        start, steps = re.fullmatch(r"(\d+ \d+)((?:h-?\d+v-?\d+)+)z", line).groups()
        x, y = map(int, start.split())
        corners = [(x, y)]
        for across, down in re.findall(r"h(-?\d+)v(-?\d+)", steps):
            x += int(across)
            corners.append((x, y))
            y += int(down)
            corners.append((x, y))
        assert corners[-1] == corners[0]
        for (x, before), (_, after) in pairwise(corners):
            crossings[min(before, after) : max(before, after), x] += 1
    return np.cumsum(crossings, axis=1)[:, :width] % 2 == 1


masks = arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


@given(masks)
def test_filled_it_is_the_mask(bitmap: np.ndarray) -> None:
    path, step = outline(rle.read("mask", rle.encode(bitmap)))
    assert step == 1
    assert np.array_equal(filled(path, *bitmap.shape), bitmap)


@given(masks, st.integers(1, 8))
def test_of_a_large_mask_every_second_or_third_pixel_is_looked_at(
    bitmap: np.ndarray, most: int
) -> None:
    path, step = outline(rle.read("mask", rle.encode(bitmap)), most)
    sampled = bitmap[::step, ::step]
    assert max(sampled.shape) <= most
    assert np.array_equal(filled(path, *sampled.shape), sampled)


def test_a_rectangle_is_four_lines() -> None:
    bitmap = np.zeros((20, 30), bool)
    bitmap[5:15, 10:25] = True
    assert outline(rle.read("mask", rle.encode(bitmap)))[0] == "M10 5h15v10h-15v-10z"


def test_an_empty_mask_has_no_path() -> None:
    assert outline(rle.read("mask", {"size": [3, 4], "counts": [12]})) == ("", 1)


def test_a_mask_that_claims_billions_of_pixels_costs_no_more_than_it_shows() -> None:
    path, step = outline(
        rle.read("mask", {"size": [65_000, 66_000], "counts": [0, 65_000 * 66_000]})
    )
    assert step == 83
    assert path == f"M0 0h{-(-66_000 // 83)}v{-(-65_000 // 83)}h-796v-784z"


def test_polygons_are_drawn_as_they_are() -> None:
    text = json.dumps([[0, 0, 10, 0, 10.5, 7.25], [20, 20, 30, 20, 30, 30, 20, 30]])
    assert polygons_path(text) == "M0 0L10 0L10.5 7.25zM20 20L30 20L30 30L20 30z"
    assert polygons_bounds(text) == (0, 0, 30, 30)


@pytest.mark.parametrize(
    "text",
    [
        *(
            "",
            "{",
            "[" * 100_000,
            "3",
            "{}",
            "[]",
            "[3]",
            "[[]]",
            "[[1, 2]]",
            "[[1, 2, 3, 4, 5, 6, 7]]",
        ),
        *("[[1, 2, 3, 4, 5, null]]", '[[1, 2, 3, 4, 5, "M0 0"]]', "[[1, 2, 3, 4, 5, NaN]]"),
        *("[[1, 2, 3, 4, 5, 1e400]]", "[[1, 2, 3, 4, 5, true]]", "[[1, 2, 3, 4, 5, 1e12]]"),
    ],
)
def test_what_is_no_polygon_has_no_path(text: str) -> None:
    assert polygons_path(text) is None
