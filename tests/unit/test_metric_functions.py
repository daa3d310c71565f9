"""The aggregates over pairs of values give what scikit-learn and scipy give."""

import math
import sqlite3
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import rankdata, spearmanr
from sklearn import metrics

from nearsql.udfs import connection, dbapi
from nearsql.udfs.evaluation_metrics import mean_ranks, reason_for
from nearsql.udfs.metric_functions import (
    R2,
    Accuracy,
    AdjustedMutualInfo,
    AdjustedRand,
    MacroF1,
    Mae,
    Spearman,
)

LABELS = st.sampled_from(["a", "b", "c", "d"])
# Numbers whose squares neither overflow nor vanish.
NUMBERS = st.integers(-1000, 1000).map(lambda n: n / 8)


def value(aggregate: Callable[[], Any], rows: Sequence[tuple[Any, Any]]) -> Any:
    state = aggregate()
    for row in rows:
        state.step(*row)
    return state.final()


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=1, max_size=40))
def test_labels_are_judged_as_by_scikit_learn(rows: list[tuple[str, str]]) -> None:
    true, predicted = zip(*rows, strict=True)
    assert value(Accuracy, rows) == metrics.accuracy_score(true, predicted)
    expected = metrics.f1_score(true, predicted, average="macro", zero_division=0)
    assert value(MacroF1, rows) == pytest.approx(expected, rel=1e-12)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(LABELS, LABELS), min_size=2, max_size=40))
def test_groupings_agree_as_by_scikit_learn(rows: list[tuple[str, str]]) -> None:
    a, b = zip(*rows, strict=True)
    assert value(AdjustedRand, rows) == pytest.approx(metrics.adjusted_rand_score(a, b), abs=1e-12)
    expected = metrics.adjusted_mutual_info_score(a, b)
    # Where chance leaves nothing to agree on, both divide nothing by nothing.
    if math.isclose(metrics.mutual_info_score(a, b), 0, abs_tol=1e-12) or len(set(a)) == len(rows):
        return
    assert value(AdjustedMutualInfo, rows) == pytest.approx(expected, abs=1e-9)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=40))
def test_numbers_are_judged_as_by_scikit_learn_and_scipy(rows: list[tuple[float, float]]) -> None:
    true, predicted = np.array(rows).T
    assert value(Mae, rows) == pytest.approx(metrics.mean_absolute_error(true, predicted))
    if len(set(true)) > 1:
        assert value(R2, rows) == pytest.approx(metrics.r2_score(true, predicted), rel=1e-9)
    else:
        assert value(R2, rows) is None
    if len(set(true)) > 1 and len(set(predicted)) > 1:
        expected = spearmanr(true, predicted).statistic
        assert value(Spearman, rows) == pytest.approx(expected, abs=1e-12)
    else:
        assert value(Spearman, rows) is None


@given(st.lists(NUMBERS, min_size=1, max_size=30))
def test_equal_values_share_their_mean_rank(values: list[float]) -> None:
    assert mean_ranks(np.array(values)).tolist() == rankdata(values).tolist()


@settings(max_examples=30, deadline=None)
@given(st.lists(st.tuples(NUMBERS, NUMBERS), min_size=2, max_size=20), st.randoms())
def test_the_order_of_rows_does_not_matter(rows: list[tuple[float, float]], random: Any) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    for aggregate in (Mae, R2, Spearman, Accuracy, MacroF1):
        assert value(aggregate, rows) == value(aggregate, shuffled)


@pytest.fixture(scope="module")
def db() -> Any:
    with closing(connection.connect(":memory:")) as opened:
        yield opened


@pytest.mark.parametrize(
    ("sql", "expected"),
    [
        # A prediction of NULL is a wrong one, and no label of its own.
        ("select accuracy(column1, column2) from (values ('a', 'a'), ('a', null))", 0.5),
        ("select macro_f1(column1, column2) from (values ('a', 'a'), ('a', null))", 2 / 3),
        # What is true is not known: the row does not count.
        ("select accuracy(column1, column2) from (values ('a', 'a'), (null, 'a'))", 1.0),
        ("select macro_f1(column1, column2) from (values ('a', 'a'), (null, 'b'))", 1.0),
        # As in SQL, 1 and 1.0 are equal, and '1' is another value.
        ("select accuracy(column1, column2) from (values (1, 1.0), (1, '1'))", 0.5),
        ("select accuracy(column1, column2) from (values (x'61', x'61'), ('a', x'61'))", 0.5),
        ("select mae(column1, column2) from (values (1, 2), (null, 2), (1, null))", 1.0),
        ("select r2(column1, column2) from (values (1, 1), (2, 2), (3, null))", 1.0),
        ("select spearman(column1, column2) from (values (1, 9), (2, 4), (2, null))", -1.0),
        ("select adjusted_rand(column1, column2) from (values (1, 2), (1, 2), (3, null))", 1.0),
        ("select adjusted_mutual_info(column1, column2) from (values (1, 2), (2, 1))", 1.0),
    ],
)
def test_null_and_types(db: dbapi.Connection, sql: str, expected: float) -> None:
    assert db.execute(sql).fetchone() == (pytest.approx(expected),)


@pytest.mark.parametrize(
    "name",
    [
        *("accuracy", "macro_f1", "mae", "r2", "spearman"),
        *("adjusted_rand", "adjusted_mutual_info"),
    ],
)
def test_nothing_is_null(db: dbapi.Connection, name: str) -> None:
    assert db.execute(f"select {name}(1, 1) where 0").fetchone() == (None,)
    assert db.execute(f"select {name}(null, 1)").fetchone() == (None,)
    if name not in ("accuracy", "macro_f1", "mae"):  # of one row there is nothing to tell
        assert db.execute(f"select {name}(1, 1)").fetchone() == (None,)


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("select mae('a', 1)", "mae: y_true must be a finite number, not 'a'"),
        ("select r2(1, 9e999)", "r2: y_pred must be a finite number, not inf"),
        (
            "select r2(column1, column2) from (values (1e200, -1e200), (2e200, 1))",
            "r2: the numbers are so large that their squares overflow",
        ),
        ("select accuracy(1)", "accuracy: missing a required argument: 'y_pred'"),
    ],
)
def test_refusals(db: dbapi.Connection, sql: str, sentence: str) -> None:
    with pytest.raises(sqlite3.OperationalError) as refusal:
        db.execute(sql).fetchall()
    assert sentence in str(refusal.value)


@pytest.mark.parametrize(
    ("true", "predicted", "reason"),
    [
        ([], [], "no item was predicted: none of the neighbours has a vote"),
        ([1.0], [1.0], "one item is too few"),
        ([1.0, 1.0], [1.0, 2.0], "all true values are the same"),
        ([1.0, 2.0], [1.0, 1.0], "all predicted values are the same"),
    ],
)
def test_reasons(true: list[float], predicted: list[float], reason: str) -> None:
    assert reason_for("spearman", np.array(true), np.array(predicted)) == reason
