"""Lines of YOLO label files: what they say in pixels, and what is refused line by line."""

import math

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.pipeline.annotations import objects, yolo_lines
from nearsql.pipeline.annotations.objects import AnnotatedObject, ClassName, ImageTruth
from nearsql.pipeline.annotations.outlines import MOST_OUTLINE_PIXELS, mask_and_area

NAMES = {0: ClassName("cat"), 1: ClassName("dog"), 7: ClassName("bus")}


def parse(text: str | bytes, width: int = 200, height: int = 100) -> ImageTruth:
    data = text if isinstance(text, bytes) else text.encode()
    return yolo_lines.parse(data, "/set/labels/a.txt", width, height, NAMES)


def test_a_box() -> None:
    truth = parse("1 0.5 0.5 0.25 0.5\n")
    assert truth.objects == [AnnotatedObject(1, "dog", (75.0, 25.0, 125.0, 75.0))]
    assert truth.problems == []
    assert (truth.n_clipped, truth.n_duplicates, truth.is_background) == (0, 0, False)


def test_a_polygon_has_the_box_around_its_points() -> None:
    (thing,) = parse("7 0.1 0.2 0.4 0.2 0.4 0.9").objects
    assert (thing.class_id, thing.class_name) == (7, "bus")
    assert thing.polygons == [[0.1 * 200, 0.2 * 100, 0.4 * 200, 0.2 * 100, 0.4 * 200, 0.9 * 100]]
    assert thing.box == (0.1 * 200, 0.2 * 100, 0.4 * 200, 0.9 * 100)


def test_empty_lines_and_byte_order_mark() -> None:
    assert len(parse("\ufeff\n\n0 0.5 0.5 1 1\r\n   \n1 .5 5e-1 1.0 1\n\n").objects) == 2
    assert parse("") == ImageTruth("/set/labels/a.txt")
    assert parse(" \n\n").objects == parse("\ufeff").objects == []


def test_without_names_any_class_number_will_do() -> None:
    (thing,) = yolo_lines.parse(b"3.0 0.5 0.5 1 1", "a.txt", 10, 10, {}).objects
    assert (thing.class_id, thing.class_name) == (3, None)


def test_lines_that_say_the_same_are_one_object() -> None:
    truth = parse("0 .5 .5 .2 .2\n1 .5 .5 .2 .2\n0 0.50 .5 .2 .2\n0 .5 .5 .2 .2\n")
    assert [thing.class_id for thing in truth.objects] == [0, 1]
    assert truth.n_duplicates == 2
    assert truth.problems == []


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("0 nan .5 .2 .2", "'nan' is not a number"),
        ("0 .5 inf .2 .2", "'inf' is not a number"),
        ("0 inf -inf .2 .2", "'inf' is not a number"),
        ("0 .5 .5 .2 1_0", "'1_0' is not a number"),
        ("0 .5 .5 .2 \u0663", "is not a number"),
        ("0 .5 .5 .2 wide", "'wide' is not a number"),
        ("0 .5 .5 .2 1e400", "'1e400' is not a number"),
        ("cat .5 .5 .2 .2", "'cat' is not a number"),
        ("0 .5 .5 1e308 1e308", "the coordinate 1e+308"),
        ("0 -0.5 .5 .2 .2", "the coordinate -0.5"),
        ("0 .5 1.02 .2 .2", "the coordinate 1.02"),
        ("0 320 240 64 48", "the coordinate 320"),
        ("0 .5 .5 0 .2", "0 wide and 0.2 high"),
        ("0 .5 .5 .2 -0.001", "0.2 wide and -0.001 high"),
        ("0 1.005 .5 .002 .2", "it has no area"),
        ("-1 .5 .5 .2 .2", "'-1' is not a class number"),
        ("0.5 .5 .5 .2 .2", "'0.5' is not a class number"),
        ("99999999999 .5 .5 .2 .2", "'99999999999' is not a class number"),
        ("2 .5 .5 .2 .2", "class 2 is not among the 3 classes with names"),
        ("0", "it has 1 column;"),
        ("0 .5 .5 .2", "it has 4 columns"),
        ("0 .5 .5 .2 .2 .9", "it has 6 columns"),
        ("0\0 .5 .5 .2 .2", "is not a number"),
    ],
)
def test_a_line_that_is_refused_leaves_the_others(line: str, sentence: str) -> None:
    truth = parse(f"0 .1 .1 .1 .1\n{line}\n1 .9 .9 .1 .1")
    assert [thing.class_id for thing in truth.objects] == [0, 1]
    (problem,) = truth.problems
    assert problem.startswith("a.txt line 2: ")
    assert sentence in problem


@pytest.mark.parametrize(
    ("line", "sentence"),
    [
        ("0 .1 .1 .9 .1 .9 .9 .5", "it has 8 columns"),
        ("0 .1 .1 .1 .5 .1 .9", "it has no area"),
        ("0 .1 .1 nan .5 .1 .9", "'nan'"),
        ("0 .1 .1 .9 1.5 .1 .9", "the coordinate 1.5"),
        ("0 .5 .5 .2 .2", "a box in a file of polygons"),
    ],
)
def test_a_polygon_that_is_refused_leaves_the_others(line: str, sentence: str) -> None:
    truth = parse(f"{line}\n1 .1 .1 .9 .1 .9 .9")
    assert [thing.class_id for thing in truth.objects] == [1]
    (problem,) = truth.problems
    assert problem.startswith("a.txt line 1: ")
    assert sentence in problem


def test_slightly_outside_is_the_border() -> None:
    truth = parse("0 -0.01 0.1 1.01 0.1 0.5 1.005\n0 0.1 0.1 0.2 0.1 0.2 0.3")
    assert truth.objects[0].box == (0.0, 10.0, 200.0, 100.0)
    assert truth.n_clipped == 1
    # A box whose numbers are all right may still reach out.
    truth = parse("0 0.1 0.5 0.4 0.2")
    assert truth.objects[0].box == pytest.approx((0.0, 40.0, 60.0, 60.0))
    assert truth.n_clipped == 1
    # The last digit of a rounded border is no reaching out.
    assert parse("0 0.5 0.5 1.0000001 1").n_clipped == 0


def test_bytes_that_are_no_text() -> None:
    truth = parse(b"0 .5 .5 .2 .2\n\xff\xfe\x00")
    assert truth.objects == []
    assert truth.problems == ["a.txt: it is not UTF-8 text (byte 14)"]


def test_of_many_mistakes_the_first_are_told_and_the_others_counted() -> None:
    truth = parse("0 .5 .5 .1 .1\n" + "nonsense\n" * 1000)
    assert len(truth.objects) == 1
    assert len(truth.problems) == objects.MOST_PROBLEMS + 1
    assert truth.problems[-1] == f"a.txt: {1000 - objects.MOST_PROBLEMS:,} more mistakes"


def test_an_outline_that_would_take_all_memory_is_refused_before_it_is_drawn() -> None:
    side = 10_000
    zigzag = " ".join(f"{x} {y}" for x, y in [(0, 0), (1, 1)] * (MOST_OUTLINE_PIXELS // side))
    truth = parse(f"0 {zigzag} 0 1", side, side)
    assert truth.objects == []
    assert "pixels long; at most 1,000,000 are drawn" in truth.problems[0]
    # As many points, close together, are no trouble.
    circle = " ".join(
        f"{0.5 + 0.01 * math.cos(i / 100):.6f} {0.5 + 0.01 * math.sin(i / 100):.6f}"
        for i in range(628)
    )
    assert len(parse(f"0 {circle}", side, side).objects) == 1


BOXES = st.tuples(
    st.sampled_from(sorted(NAMES)),
    st.floats(0.2, 0.8),
    st.floats(0.2, 0.8),
    st.floats(0.01, 0.4),
    st.floats(0.01, 0.4),
)


@settings(deadline=None)
@given(st.lists(BOXES, unique=True), st.integers(1, 5000), st.integers(1, 5000))
def test_boxes_equal_the_arithmetic_of_the_format(lines, width, height) -> None:
    text = "\n".join(" ".join(map(repr, line)) for line in lines)
    truth = parse(text, width, height)
    assert truth.problems == []
    values = np.array([line[1:] for line in lines]).reshape(-1, 4) * [width, height, width, height]
    expected = np.concatenate(
        [values[:, :2] - values[:, 2:] / 2, values[:, :2] + values[:, 2:] / 2], 1
    )
    found = np.array([thing.box for thing in truth.objects]).reshape(-1, 4)
    np.testing.assert_allclose(found, expected, rtol=1e-12, atol=1e-9)
    assert [thing.class_id for thing in truth.objects] == [line[0] for line in lines]


@settings(deadline=None, max_examples=300)
@given(
    st.lists(
        st.one_of(
            st.text(max_size=30),
            st.lists(
                st.one_of(
                    st.floats().map(repr), st.integers().map(str), st.sampled_from(["0", ".5", "1"])
                ),
                max_size=12,
            ).map(" ".join),
        ),
        max_size=6,
    )
)
def test_whatever_a_line_holds_is_an_object_or_a_problem(lines: list[str]) -> None:
    text = "\n".join(lines)
    truth = parse(text.encode("utf-8", "surrogatepass"))
    for thing in truth.objects:
        x_min, y_min, x_max, y_max = thing.box
        assert 0 <= x_min < x_max <= 200
        assert 0 <= y_min < y_max <= 100
        assert thing.class_id in NAMES
        mask, area = mask_and_area(thing, 200, 100)
        assert (mask is None) == (thing.polygons is None)
        assert 0 <= area <= 20_000
    n_lines = sum(bool(line.split()) for line in text.splitlines())
    if "not UTF-8" not in "".join(truth.problems):
        assert len(truth.objects) + len(truth.problems) + truth.n_duplicates == n_lines
