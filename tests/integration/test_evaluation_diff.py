"""evaluation_diff and evaluation_agreement against the predictions, item by item."""

import sqlite3
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from judged_runs import Predictions, add_evaluation
from scipy.stats import binomtest
from scipy.stats import wilcoxon as signed_rank

from nearsql.pipeline.runs import run
from nearsql.udfs import dbapi

A = ("s", 5, "uniform")
# (true, predicted) by item.
BEFORE: Predictions = {
    1: ("cat", "cat"),
    2: ("cat", "dog"),
    3: ("dog", "cat"),
    4: ("dog", "dog"),
    5: ("cat", "dog"),
    6: ("cat", None),
    7: ("cat", "cat"),
    8: ("dog", "dog"),
    9: ("dog", "dog"),
}
AFTER: Predictions = {
    1: ("cat", "cat"),
    2: ("cat", "cat"),  # gained
    3: ("dog", "bird"),  # still wrong
    4: ("dog", "cat"),  # lost
    5: ("cat", "dog"),
    6: ("cat", "cat"),  # gained: nothing was no right answer
    7: ("dog", "dog"),  # another truth
    8: ("dog", None),  # lost
    10: ("cat", "cat"),  # only here
}


def diff(db: dbapi.Connection, *arguments: Any, columns: str = "id, change") -> list[tuple]:
    marks = ", ".join("?" * len(arguments))
    return db.execute(f"select {columns} from evaluation_diff({marks})", arguments).fetchall()


def agree(db: dbapi.Connection, *arguments: Any, columns: str) -> list[tuple]:
    marks = ", ".join("?" * len(arguments))
    return db.execute(f"select {columns} from evaluation_agreement({marks})", arguments).fetchall()


def test_each_change_by_its_name(db: dbapi.Connection) -> None:
    a, b = add_evaluation(db, {A: BEFORE}), add_evaluation(db, {A: AFTER})
    assert diff(db, a, b, columns="*") == [
        (2, "gained", "cat", "dog", "cat", None, None),
        (3, "still wrong", "dog", "cat", "bird", None, None),
        (4, "lost", "dog", "dog", "cat", None, None),
        (6, "gained", "cat", None, "cat", None, None),
        (8, "lost", "dog", "dog", None, None, None),
    ]
    assert agree(
        db, a, b, columns="metric, items, value_a, value_b, gained, lost, other, p_value, reason"
    ) == [("accuracy", 7, 3 / 7, 3 / 7, 2, 2, 1, 1.0, None)]


def test_agreement_of_many_items_is_counted(db: dbapi.Connection) -> None:
    random = np.random.default_rng(0)
    truth, one, other = (random.integers(0, 3, 400).astype(str).tolist() for _ in range(3))
    better = [t if random.random() < 0.3 else o for t, o in zip(truth, other, strict=True)]
    a = add_evaluation(db, {A: dict(enumerate(zip(truth, one, strict=True), 1))})
    b = add_evaluation(db, {A: dict(enumerate(zip(truth, better, strict=True), 1))})
    right_a, right_b = (np.array(truth) == np.array(found) for found in (one, better))
    gained, lost = int((right_b & ~right_a).sum()), int((right_a & ~right_b).sum())
    assert gained > lost > 10
    ((*counts, p),) = agree(db, a, b, columns="value_a, value_b, gained, lost, p_value")
    assert counts == [right_a.mean(), right_b.mean(), gained, lost]
    assert p == pytest.approx(binomtest(gained, gained + lost).pvalue)


def test_numbers_are_compared_by_their_errors(db: dbapi.Connection) -> None:
    before = {1: (0.5, 0.9), 2: (0.5, 0.5), 3: (0.5, 0.4), 4: (1, 1), 5: (1, None), 6: (2.5, 2.0)}
    after = {1: (0.5, 0.6), 2: (0.5, 0.0), 3: (0.5, 0.6), 4: (1, 1), 5: (1, 1.0), 6: (2.0, 2.0)}
    a, b = (
        add_evaluation(db, {A: found}, label=None, target="mean_iou") for found in (before, after)
    )
    assert diff(db, a, b) == [(1, "closer"), (2, "farther"), (3, "as far"), (5, None)]
    columns = "metric, items, gained, lost, other, reason"
    assert agree(db, a, b, columns=columns) == [("mae", 4, 1, 1, 1, None)]
    ((value_a, value_b, p),) = agree(db, a, b, columns="value_a, value_b, p_value")
    assert (value_a, value_b) == pytest.approx((0.125, 0.175))
    assert p == pytest.approx(signed_rank([0.1 - 0.4, 0.5]).pvalue)


def test_labels_that_look_like_numbers_are_labels(db: dbapi.Connection) -> None:
    a = add_evaluation(db, {A: {1: ("3", "5"), 2: ("5", "5")}})
    b = add_evaluation(db, {A: {1: ("3", "3"), 2: ("5", "3")}})
    assert diff(db, a, b) == [(1, "gained"), (2, "lost")]


def test_nothing_that_differs_has_no_p(db: dbapi.Connection) -> None:
    a = add_evaluation(db, {A: {1: ("x", "x")}})
    b = add_evaluation(db, {A: {2: ("x", "x")}})
    numbers = add_evaluation(db, {A: {1: (1.0, 2.0)}}, label=None, target="fn")
    columns = "items, value_a, p_value, reason"
    assert agree(db, a, a, *[None] * 5, "s", columns=columns) == [
        (1, 1.0, None, "neither is right on other items")
    ]
    assert agree(db, a, b, columns=columns) == [
        (0, None, None, "no item was predicted by both from the same truth")
    ]
    assert agree(db, numbers, numbers, *[None] * 5, "s", columns=columns) == [
        (1, 1.0, None, "neither errs by another amount")
    ]


SETTINGS = "space_a, k_a, weighting_a, space_b, k_b, weighting_b"


def of(space: str, k: int, weighting: str) -> tuple[str, int, str]:
    return (space, k, weighting)


@pytest.fixture
def three(db: dbapi.Connection) -> Sequence[int]:
    """1: clip and dino by k 1 and 5, uniform. 2: clip by k 5, uniform and distance. 3: pixels, likewise."""
    some = {1: ("x", "x")}
    return [
        add_evaluation(
            db, {of(space, k, "uniform"): some for space in ("clip", "dino") for k in (1, 5)}
        ),
        add_evaluation(db, {of("clip", 5, way): some for way in ("uniform", "distance")}),
        add_evaluation(db, {of("pixels", 5, way): some for way in ("uniform", "distance")}),
    ]


def test_which_settings_are_compared(db: dbapi.Connection, three: Sequence[int]) -> None:
    for runs, wanted, pairs in (
        # What both have, each space with itself.
        ((0, 1), (), [(*of("clip", 5, "uniform"), *of("clip", 5, "uniform"))]),
        # Without a space in common, each with each.
        (
            (0, 2),
            (),
            [(*of(space, 5, "uniform"), *of("pixels", 5, "uniform")) for space in ("clip", "dino")],
        ),
        ((0, 2), (5, None, "dino", None, None, "pixels"), [(*of("dino", 5, "uniform"), *of("pixels", 5, "uniform"))]),
        # One run: each two of its spaces, or two ks, weightings.
        (
            (0, 0),
            (),
            [(*of("clip", k, "uniform"), *of("dino", k, "uniform")) for k in (1, 5)],
        ),
        (
            (0, 0),
            (1, None, None, 5),
            [(*of(space, 1, "uniform"), *of(space, 5, "uniform")) for space in ("clip", "dino")],
        ),
        (
            (1, 1),
            (None, "distance", None, None, "uniform"),
            [(*of("clip", 5, "distance"), *of("clip", 5, "uniform"))],
        ),
        ((0, 0), (1, None, "dino", None, None, "clip"), [(*of("dino", 1, "uniform"), *of("clip", 1, "uniform"))]),
        ((0, 1), (None, None, "clip", None, "distance"), [
            (*of("clip", k, "uniform"), *of("clip", 5, "distance")) for k in (5,)
        ]),
    ):  # fmt: skip
        a, b = (three[place] for place in runs)
        assert agree(db, a, b, *wanted, columns=SETTINGS) == pairs
        if len(pairs) == 1:
            assert diff(db, a, b, *wanted) == []


def test_refusals(db: dbapi.Connection, three: Sequence[int]) -> None:
    for runs, wanted, sentence in (
        ((0, 1), (3,), "run 1 has no predictions by k 3: it has them by 1, 5"),
        ((0, 1), (5, "softmax"), "run 1 has no predictions by weighting 'softmax': it has them by 'uniform'"),
        ((0, 1), (5, None, "dino"), "run 2 has no predictions by space 'dino': it has them by 'clip'"),
        ((0, 1), (1, None, None, 5, "x"), "run 2 has no predictions by weighting 'x': it has them by 'distance', 'uniform'"),
        ((0, 1), (0,), "k must be a whole number of at least 1, not 0"),
        ((0, 1), (1, 3), "weighting must be a text, not 3"),
        ((0, 1), (1, "uniform", None, None, "distance"), "run 2 has no predictions by k 1: it has them by 5"),
        ((0, 1), (None, "uniform", None, None, "distance", "clip"), "runs 1 and 2 can be compared by 2 settings: say which space ('clip', 'dino')"),
        ((0, 0), (), "runs 1 and 1 can be compared by 2 settings: say which k (1, 5)"),
        ((0, 0), (1, None, None, 5), "runs 1 and 1 can be compared by 2 settings: say which space ('clip', 'dino')"),
        ((1, 1), (), "run 2 has no other predictions to compare these with: name another k,"),
        ((0, 7), (), "there is no run 99: evaluations have numbers, the newest are 3, 2, 1"),
    ):  # fmt: skip
        a, b = (dict(enumerate(three)).get(place, 99) for place in runs)
        with pytest.raises(sqlite3.OperationalError) as caught:
            diff(db, a, b, *wanted)
        assert str(caught.value).startswith(f"evaluation_diff: {sentence}")


def test_other_runs_are_refused(db: dbapi.Connection, three: Sequence[int]) -> None:
    with run(db, "cluster", parameters={}) as clustering:
        pass
    numbers = add_evaluation(db, {A: {1: (1.0, 2.0)}}, label=None, target="fn")
    other = add_evaluation(db, {A: {1: ("x", "x")}}, label="breed")
    weighted = add_evaluation(db, {("clip", 5, "distance"): {1: ("x", "x")}})
    with pytest.raises(ValueError, match="stop"), run(db, "evaluate", parameters={}) as failed:
        raise ValueError("stop")
    for wrong, sentence in (
        (clustering.id, f"run {clustering.id} is of kind 'cluster', not 'evaluate'"),
        (failed.id, f"run {failed.id} is failed, and has not all of its predictions"),
        (
            numbers,
            f"run 1 predicted label 'kind', and run {numbers} target 'fn': only predictions of the same"
            + " can be compared",
        ),
        (other, f"run 1 predicted label 'kind', and run {other} label 'breed': only"),
        (weighted, f"runs 1 and {weighted} have no k and weighting in common: name those"),
    ):
        with pytest.raises(sqlite3.OperationalError) as caught:
            diff(db, three[0], wrong)
        assert str(caught.value).startswith(f"evaluation_diff: {sentence}")
    db.execute("delete from spaces where name = 'pixels'")
    with pytest.raises(
        sqlite3.OperationalError, match="the spaces that run 3 evaluated are deleted"
    ):
        diff(db, 3, 3)
