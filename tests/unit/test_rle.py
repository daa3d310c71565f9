"""COCO RLE, written and read: as pycocotools does it, and without trusting what is read."""

import json
import tracemalloc
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays
from pycocotools import mask as coco

from nearsql.udfs import rle
from nearsql.udfs.errors import SqlFunctionError

sides = st.integers(1, 12)
bitmaps = arrays.arrays(np.uint8, st.tuples(sides, sides), elements=st.integers(0, 1))


def by_coco(bitmap: np.ndarray) -> dict[str, Any]:
    encoded = coco.encode(np.asfortranarray(bitmap))
    return {"size": encoded["size"], "counts": encoded["counts"].decode()}


def pixels(mask: rle.Mask) -> np.ndarray:
    """The slow, obvious way back: pixel by pixel."""
    column_after_column = np.zeros(mask.height * mask.width, np.uint8)
    for start, end in zip(mask.starts, mask.ends, strict=True):
        for position in range(start, end):
            column_after_column[position] = 1
    return column_after_column.reshape(mask.width, mask.height).T


def plain_counts(bitmap: np.ndarray) -> list[int]:
    """The counts of a bitmap, counted one pixel at a time."""
    counts, last = [0], 0
    for pixel in bitmap.T.ravel().tolist():
        if pixel != last:
            counts.append(0)
        counts[-1] += 1
        last = pixel
    return counts


@settings(deadline=None)
@given(bitmaps)
def test_encodes_as_pycocotools_does(bitmap: np.ndarray) -> None:
    assert rle.encode(bitmap) == by_coco(bitmap)


@pytest.mark.parametrize("shape", [(1, 1), (1, 700), (700, 1), (640, 480), (3000, 1000)])
def test_encodes_long_runs_as_pycocotools_does(shape: tuple[int, int]) -> None:
    for share in (0, 0.00001, 0.001, 0.5, 1):
        bitmap = (np.random.default_rng(1).random(shape) < share).astype(np.uint8)
        encoded = rle.encode(bitmap)
        assert encoded == by_coco(bitmap)
        assert rle.read("mask", encoded).area == bitmap.sum()


@settings(deadline=None)
@given(bitmaps, st.data())
def test_a_bitmap_within_an_image_is_as_the_image_with_it(
    bitmap: np.ndarray, data: st.DataObject
) -> None:
    above, below, left, right = (data.draw(st.integers(0, 3)) for _ in range(4))
    image = np.pad(bitmap, ((above, below), (left, right)))
    assert rle.encode(bitmap, top=above, left=left, size=image.shape) == by_coco(image)


def test_an_empty_bitmap_leaves_the_image_empty() -> None:
    nothing = np.zeros((0, 3), bool)
    assert rle.encode(nothing, top=5, left=0, size=(5, 4)) == by_coco(np.zeros((5, 4), np.uint8))


@pytest.mark.parametrize(("top", "left"), [(-1, 0), (0, -1), (2, 0), (0, 3)])
def test_a_bitmap_must_lie_within_the_image(top: int, left: int) -> None:
    with pytest.raises(ValueError, match="not within 3 x 4"):
        rle.encode(np.ones((2, 2)), top=top, left=left, size=(3, 4))


@settings(deadline=None)
@given(bitmaps)
def test_reads_back_what_was_written(bitmap: np.ndarray) -> None:
    height, width = bitmap.shape
    plain = {"size": [height, width], "counts": plain_counts(bitmap)}
    for written in (rle.encode(bitmap), plain):
        mask = rle.read_json("mask", json.dumps(written))
        assert np.array_equal(pixels(mask), bitmap)
        assert np.array_equal(mask.bitmap(), bitmap)
        assert mask.area == bitmap.sum()


@pytest.mark.parametrize("counts", [[2, 0, 2], [0, 0, 4], [4, 0], [0, 0, 0, 0, 0, 4]])
def test_only_the_first_run_may_be_empty(counts: list[int]) -> None:
    """pycocotools gives wrong numbers for them, writes beyond its buffer, or does not come back."""
    for written in (counts, rle._compress(np.array(counts))):
        with pytest.raises(SqlFunctionError, match="has an empty run"):
            rle.read("mask", {"size": [2, 2], "counts": written})
    assert rle.read("mask", {"size": [2, 2], "counts": [0, 4]}).area == 4


@settings(deadline=None)
@given(bitmaps, st.data())
def test_the_intersection_is_that_of_the_pixels(a: np.ndarray, data: st.DataObject) -> None:
    b = data.draw(arrays.arrays(np.uint8, a.shape, elements=st.integers(0, 1)))
    first, second = rle.read("a", rle.encode(a)), rle.read("b", rle.encode(b))
    assert rle.intersection(first, second) == (a & b).sum() == rle.intersection(second, first)


def test_the_largest_mask_is_read_without_its_pixels() -> None:
    tracemalloc.start()
    mask = rle.read("mask", {"size": [2**16, 2**15], "counts": [5, 2**31 - 6, 1]})
    assert mask.area == rle.intersection(mask, mask) == 2**31 - 6
    _, peak = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert peak < 1e6


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "not valid JSON"),
        ("{", "not valid JSON"),
        ("[" * 100_000, "not valid JSON"),
        ("1" * 10_000, "not valid JSON"),
        ("null", "must be a mask as COCO RLE"),
        ("[[1, 2, 3, 4]]", "must be a mask as COCO RLE"),
        ('{"size": [1, 1]}', "must be a mask as COCO RLE"),
        ('{"size": [1], "counts": [1]}', "must have as its size"),
        ('{"size": [1, 1, 1], "counts": [1]}', "must have as its size"),
        ('{"size": {"1": 1}, "counts": [1]}', "must have as its size"),
        ('{"size": [1.0, 1], "counts": [1]}', "must have as its size"),
        ('{"size": [true, 1], "counts": [1]}', "must have as its size"),
        ('{"size": [-1, -1], "counts": [1]}', "must have as its size"),
        ('{"size": [0, 0], "counts": []}', "must have as its size"),
        ('{"size": [65536, 65536], "counts": [4294967296]}', "at most 4294967295"),
        ('{"size": [2, 2], "counts": 4}', "must have as its counts"),
        ('{"size": [2, 2], "counts": [4.0]}', "must have as its counts"),
        ('{"size": [2, 2], "counts": [NaN]}', "must have as its counts"),
        ('{"size": [2, 2], "counts": ["4"]}', "must have as its counts"),
        ('{"size": [2, 2], "counts": [true, 3]}', "must have as its counts"),
        ('{"size": [2, 2], "counts": [99999999999999999999999]}', "must have as its counts"),
        ('{"size": [2, 2], "counts": [5, -1]}', "no run is shorter than 0"),
        ('{"size": [2, 2], "counts": [1, 2]}', "runs of 3 pixels, and its size is 2 x 2 = 4"),
        (
            '{"size": [2, 2], "counts": [0, 0, 0, 0, 0, 4]}',
            "only the first, of background, may be empty",
        ),
        ('{"size": [2, 2], "counts": []}', "runs of 0 pixels"),
        ('{"size": [2, 2], "counts": ""}', "runs of 0 pixels"),
        ('{"size": [2, 2], "counts": "5"}', "runs of 5 pixels"),
        ('{"size": [2, 2], "counts": "O"}', "no run is shorter than 0"),  # -1
        ('{"size": [2, 2], "counts": "4 "}', "characters that no RLE has"),
        ('{"size": [2, 2], "counts": "4\\n"}', "characters that no RLE has"),
        ('{"size": [2, 2], "counts": "4\\u0000"}', "characters that no RLE has"),
        ('{"size": [2, 2], "counts": "\\u0663"}', "characters that no RLE has"),
        ('{"size": [2, 2], "counts": "\\ud800"}', "characters that no RLE has"),
        ('{"size": [2, 2], "counts": "P"}', "end within a number"),
        ('{"size": [2, 2], "counts": "ooooooo0"}', "too large for any mask"),
        ('{"size": [2, 2], "counts": "oooooo?"}', "too large for any mask"),
    ],
)
def test_what_is_no_mask_is_refused_with_a_sentence(text: str, sentence: str) -> None:
    with pytest.raises(SqlFunctionError, match="mask a") as error:
        rle.read_json("mask a", text)
    assert sentence in str(error.value)
    assert len(str(error.value)) < 300


def test_only_text_is_read() -> None:
    with pytest.raises(SqlFunctionError, match="not a BLOB of 2 bytes"):
        rle.read_json("a", b"{}")


def test_counts_beyond_all_reason_are_refused_before_they_are_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(rle, "MAX_COUNTS_LENGTH", 3)
    assert rle.read("a", {"size": [3, 1], "counts": "111"}).area == 1
    for counts in ("0111", [0, 1, 1, 1]):
        with pytest.raises(SqlFunctionError, match="counts of length 4"):
            rle.read("a", {"size": [3, 1], "counts": counts})


junk = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3)
    ),
    max_leaves=6,
)
rle_text = st.text(st.characters(min_codepoint=40, max_codepoint=120), max_size=30)
likely = st.fixed_dictionaries(
    {
        "size": st.lists(st.integers(-1, 2**33), min_size=1, max_size=3) | junk,
        "counts": rle_text | st.lists(st.integers(-5, 2**33), max_size=6) | junk,
    }
)


@settings(deadline=None, max_examples=500)
@given(junk | likely)
def test_anything_is_either_read_or_refused(value: Any) -> None:
    try:
        mask = rle.read_json("a", json.dumps(value))
    except SqlFunctionError:
        return
    assert 0 <= mask.area <= mask.height * mask.width
    assert rle.intersection(mask, mask) == mask.area
    if mask.height * mask.width < 1e6:
        assert mask.bitmap().sum() == mask.area


@settings(deadline=None, max_examples=500)
@given(st.lists(st.integers(0, 2**32 - 1), min_size=1, max_size=8))
def test_compressed_and_plain_counts_are_the_same_numbers(counts: list[int]) -> None:
    values = np.array(counts, dtype=np.int64)
    assert rle._decompress("a", rle._compress(values)).tolist() == counts
