"""Which mistake is of which kind: by examples whose answer is seen, and beside a slow twin of TIDE's rules."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline.failures.lonely import Compared, Lonely
from nearsql.pipeline.failures.mistakes import (
    FalseAlarm,
    Miss,
    Object,
    Prediction,
    false_alarms,
    misses,
    size_of,
)

CAT = Object(1, "cat", (0, 0, 10, 10), 100)


def seen(
    box: tuple[float, float, float, float],
    name: str = "cat",
    *,
    is_counted: bool = True,
    is_right: bool = False,
) -> Prediction:
    return Prediction(7, name, 0.9, box, is_counted, is_right)


@pytest.mark.parametrize(
    ("predictions", "why"),
    [
        ([], "not seen"),
        ([seen((0, 0, 10, 9), "dog")], "wrong class"),
        ([seen((0, 0, 10, 4), "dog")], "not seen"),  # IoU 0.4
        ([seen((0, 0, 10, 4))], "wrong place"),
        ([seen((0, 0, 10, 0.5))], "not seen"),  # IoU 0.05
        ([seen((0, 0, 10, 9), is_counted=False)], "unsure"),
        ([seen((0, 0, 10, 9), is_right=True)], "shared"),
        ([seen((0, 0, 10, 4)), seen((0, 0, 10, 9), "dog")], "wrong class"),
        ([seen((0, 0, 10, 9), is_counted=False), seen((0, 0, 10, 4))], "wrong place"),
    ],
)
def test_why_an_object_is_missed(predictions: list[Prediction], why: str) -> None:
    (miss,) = misses([CAT], predictions)
    assert miss.why == why
    assert (miss.prediction is None) == (why == "not seen")


def test_what_is_found_or_a_crowd_is_not_missed() -> None:
    found = Object(2, "cat", (0, 0, 5, 5), 25, is_found=True)
    crowd = Object(3, "cat", (0, 0, 5, 5), 25, is_crowd=True)
    assert misses([found, crowd, CAT], []) == [Miss(CAT, "not seen", None)]


@pytest.mark.parametrize(
    ("prediction", "why"),
    [
        (seen((20, 20, 30, 30)), "nothing there"),
        (seen((0, 0, 10, 4)), "wrong place"),
        (seen((0, 0, 10, 9), "dog"), "wrong class"),
        (seen((0, 0, 10, 9)), "duplicate"),
        (seen((0, 0, 10, 4), "dog"), "wrong class and place"),
    ],
)
def test_why_a_detection_is_false(prediction: Prediction, why: str) -> None:
    found = Object(1, "cat", (0, 0, 10, 10), 100, is_found=True)
    (alarm,) = false_alarms([found], [prediction])
    assert alarm.why == why
    assert (alarm.object is None) == (why == "nothing there")


def test_what_is_right_unsure_or_on_a_crowd_is_no_false_alarm() -> None:
    crowd = Object(1, "cat", (0, 0, 10, 10), 100, is_crowd=True)
    on_it, half, less = seen((0, 0, 10, 10)), seen((5, 0, 15, 10)), seen((6, 0, 16, 10))
    other, right = seen((0, 0, 10, 10), "dog"), seen((20, 0, 30, 9), is_right=True)
    unsure = seen((20, 0, 30, 9), is_counted=False)
    found = false_alarms([crowd], [on_it, half, less, other, right, unsure])
    assert [alarm.prediction for alarm in found] == [less, other]
    assert {alarm.why for alarm in found} == {"nothing there"}


@pytest.mark.parametrize(
    ("area", "size"),
    [(0, "small"), (1023.9, "small"), (1024, "medium"), (9215, "medium"), (9216, "large")],
)
def test_sizes_are_those_of_coco(area: float, size: str) -> None:
    assert size_of(area) == size


corner = st.integers(0, 12)
boxes = st.builds(
    lambda x, y, w, h: (float(x), float(y), float(x + w), float(y + h)),
    *(corner, corner, st.integers(0, 8), st.integers(0, 8)),
)
names = st.sampled_from(["cat", "dog"])


def tide(prediction: Prediction, objects: list[Object]) -> str:
    """The definitions, pixel by pixel on a grid."""

    def pixels(box: tuple[float, float, float, float]) -> np.ndarray:
        grid = np.zeros((24, 24), bool)
        x_min, y_min, x_max, y_max = map(int, box)
        grid[y_min:y_max, x_min:x_max] = True
        return grid

    def best(of_class: bool) -> float:
        ious = [0.0]
        for each in objects:
            if (each.class_name == prediction.class_name) == of_class:
                a, b = pixels(prediction.box), pixels(each.box)
                ious.append((a & b).sum() / max(1, (a | b).sum()))
        return max(ious)

    same, other = best(True), best(False)
    if 0.1 <= same < 0.5:
        return "wrong place"
    if other >= 0.5:
        return "wrong class"
    if same >= 0.5:
        return "duplicate"
    if max(same, other) < 0.1:
        return "nothing there"
    return "wrong class and place"


@given(
    st.lists(st.tuples(names, boxes), max_size=5),
    st.lists(st.tuples(names, boxes), max_size=5),
)
def test_false_alarms_are_those_of_the_definitions(
    truth: list[tuple[str, tuple[float, float, float, float]]],
    predicted: list[tuple[str, tuple[float, float, float, float]]],
) -> None:
    objects = [Object(n, name, box, 1.0) for n, (name, box) in enumerate(truth)]
    predictions = [Prediction(n, name, 0.5, box) for n, (name, box) in enumerate(predicted)]
    found = false_alarms(objects, predictions)
    assert [alarm.why for alarm in found] == [tide(each, objects) for each in predictions]
    assert all(isinstance(alarm, FalseAlarm) for alarm in found)


def test_alone_is_low_among_neighbours_that_are_high() -> None:
    # Values 0 to 15, expected the same shuffled: the lowest quarter is 0 to 3, the highest 12 to 15.
    expected = [15, 1, 14, 12, *range(4, 12), 0, 13, 2, 3]
    compared = [Compared(n, n, value, []) for n, value in enumerate(expected)]
    found = Lonely(compared, 3.75, 11.25, None)
    assert [each.item_id for each in found.failures] == [0, 2, 3]
    assert found.by_chance == 4 * 4 / 16
    assert Lonely(compared, None, None, None).failures == []
