"""Letterboxing is ultralytics' own, and its geometry can be undone."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline.detect import weights  # noqa: F401
from nearsql.pipeline.detect.letterbox import GREY, Frame, letterbox

# isort: split
# After `weights`, which keeps the import from changing other libraries.
from ultralytics.data.augment import LetterBox
from ultralytics.utils.ops import scale_boxes

sides = st.integers(1, 3000)
sizes = st.sampled_from([32, 160, 320, 640, 1280])
shares = st.floats(0, 1, allow_nan=False)


@given(sides, sides, sizes, st.lists(st.tuples(shares, shares, shares, shares), max_size=5))
def test_boxes_come_back_from_the_square(
    width: int, height: int, size: int, boxes: list[tuple[float, ...]]
) -> None:
    frame = Frame.fit(width, height, size)
    image = np.reshape(boxes, (-1, 4)) * [width, height, width, height]
    square = frame.to_square(image)
    np.testing.assert_allclose(frame.to_image(square), image, atol=1e-6 * max(width, height))
    assert (square >= -1e-9).all()
    assert (square <= size + 1e-9).all()


@given(sides, sides, sizes, st.lists(st.tuples(*[st.floats(-50, 1400)] * 4), max_size=5))
def test_the_geometry_is_that_of_scale_boxes(
    width: int, height: int, size: int, boxes: list[tuple[float, ...]]
) -> None:
    square = np.reshape(boxes, (-1, 4))
    expected = scale_boxes((size, size), torch.from_numpy(square.copy()), (height, width))
    found = Frame.fit(width, height, size).to_image(square)
    np.testing.assert_allclose(found, expected.numpy(), rtol=1e-9, atol=1e-9 * max(width, height))


@given(st.integers(1, 400), st.integers(1, 400), st.sampled_from([32, 64, 160]), st.integers(0, 99))
def test_the_pixels_are_those_of_letterbox(width: int, height: int, size: int, seed: int) -> None:
    rgb = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    square, frame = letterbox(rgb, size)
    assert np.array_equal(square, LetterBox(size, auto=False)(image=rgb))
    assert (frame.width, frame.height, frame.size) == (width, height, size)


def test_boxes_are_clipped_to_the_image() -> None:
    frame = Frame.fit(100, 50, 200)
    assert frame.to_image([[-5, -5, 500, 500]]).tolist() == [[0, 0, 100, 50]]
    assert frame.to_image([]).shape == (0, 4)


def test_an_odd_padding_leaves_its_last_pixel_to_the_right_and_the_bottom() -> None:
    square, frame = letterbox(np.zeros((5, 8, 3), np.uint8), 8)
    assert (frame.left, frame.top, frame.scaled_size) == (0, 1, (8, 5))
    assert (square[:, 0, 0] == GREY).tolist() == [True] + [False] * 5 + [True] * 2


def test_a_very_thin_image_keeps_one_pixel() -> None:
    square, frame = letterbox(np.zeros((3000, 1, 3), np.uint8), 320)
    assert frame.scaled_size == (1, 320)
    assert (square[..., 0] == 0).sum() == 320


@pytest.mark.parametrize(("width", "height", "size"), [(0, 5, 32), (5, 0, 32), (5, 5, 0)])
def test_nothing_has_no_place(width: int, height: int, size: int) -> None:
    with pytest.raises(ValueError, match="has no place"):
        Frame.fit(width, height, size)
