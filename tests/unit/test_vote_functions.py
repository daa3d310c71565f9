"""kNN votes: as scikit-learn counts them, with ties decided."""

import math
import sqlite3
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.udfs import connection, dbapi
from nearsql.udfs.vote_functions import Vote, VoteShare, VoteValue

Fill = Callable[..., int]
NEIGHBORS = "(values ('cat', 0.1), ('dog', 0.3), ('dog', 0.4), (null, 0.0))"


@pytest.fixture(scope="module")
def empty() -> Iterator[dbapi.Connection]:
    """An empty nearsql database that no test changes."""
    db = connection.create(":memory:")
    yield db
    db.close()


def value(db: dbapi.Connection, sql: str, *parameters: Any) -> Any:
    return db.execute(sql, parameters).fetchone()[0]


def final(aggregate: Any, rows: Sequence[tuple[Any, ...]]) -> Any:
    for row in rows:
        aggregate.step(*row)
    return aggregate.final()


@pytest.mark.parametrize(
    ("weighting", "winner", "share"),
    [
        ("", "dog", 2 / 3),
        (", 'uniform'", "dog", 2 / 3),
        (", 'distance'", "cat", 10 / (10 + 1 / 0.3 + 2.5)),
        (", 'softmax'", "cat", 1 / (1 + math.exp(-0.2 / 0.07) + math.exp(-0.3 / 0.07))),
        (", 'softmax', 1e9", "dog", 2 / 3),
        (", 'softmax', 1e-9", "cat", 1.0),
        (", iif(column1 = 'cat', 3, 0.5)", "cat", 3 / 4),
    ],
)
def test_weightings(empty: dbapi.Connection, weighting: str, winner: str, share: float) -> None:
    arguments = f"column1, column2{weighting}"
    assert value(empty, f"select vote({arguments}) from {NEIGHBORS}") == winner
    got = value(empty, f"select vote_share({arguments}) from {NEIGHBORS}")
    assert got == pytest.approx(share, rel=1e-7)


def test_ties_go_to_the_nearest_then_to_the_first_label() -> None:
    assert final(Vote(), [("a", 0.3), ("b", 0.1), ("a", 0.4), ("b", 0.5)]) == "b"
    assert final(Vote(), [("b", 0.1), ("a", 0.1)]) == "a"
    assert final(Vote(), [("b", 0.1), (3, 0.1), (b"x", 0.1)]) == 3
    # Equal sums in floating point, whatever the order of the rows.
    rows = [("a", 1 / w) for w in (0.1, 0.2, 0.3)] + [("b", 1 / w) for w in (0.3, 0.2, 0.1)]
    assert {final(Vote(), [(*r, "distance") for r in order]) for order in (rows, rows[::-1])} == {
        "a"
    }


@settings(deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["a", "b", "c", None]), st.sampled_from([0, 0.5, 1, 2])),
        max_size=12,
    ),
    st.sampled_from(["uniform", "distance", "softmax"]),
    st.randoms(use_true_random=False),
)
def test_the_order_of_rows_does_not_matter(
    rows: list[tuple[str | None, float]], weighting: str, random: Any
) -> None:
    shuffled = list(rows)
    random.shuffle(shuffled)
    for aggregate in (Vote, VoteShare):
        first = final(aggregate(), [(*row, weighting) for row in rows])
        assert final(aggregate(), [(*row, weighting) for row in shuffled]) == first
        assert (first is None) == all(label is None for label, _ in rows)


def test_no_votes_are_null(db: dbapi.Connection) -> None:
    for call in ("vote(column1, 0.1)", "vote_share(column1, 0.1)", "vote_value(column1, 0.1)"):
        assert value(db, f"select {call} from (values (1)) where 0") is None
        assert value(db, f"select {call} from (values (null), (null))") is None
    assert value(db, "select vote('a', 0.1, 0)") is None


def test_exact_matches_take_all_the_weight() -> None:
    rows = [("a", 0.0), ("b", 1e-9), ("b", 1e-9)]
    assert final(Vote(), [(*row, "distance") for row in rows]) == "a"
    assert final(VoteShare(), [(*row, "distance") for row in rows]) == 1
    assert final(VoteValue(), [(4, 0.0, "distance"), (8, 0.0, "distance"), (9, 1, "distance")]) == 6
    # 1 / distance overflows: as near as nothing.
    assert final(Vote(), [("a", 5e-324, "distance"), ("b", 1, "distance")]) == "a"


@pytest.mark.parametrize(
    ("call", "message"),
    [
        ("vote('a', null)", "vote: distance must be a finite number, not NULL"),
        ("vote('a', 'far')", "distance must be a finite number, not 'far'"),
        ("vote('a', 1, 'cosine')", "weighting must be uniform, distance, softmax or a number"),
        ("vote('a', 1, null)", "not NULL"),
        ("vote('a', 1, -1)", "must be at least 0, not -1"),
        ("vote('a', -1, 'distance')", "for negative ones .metric ip. use 'softmax'"),
        ("vote('a', 1, 'softmax', 0)", "temperature must be above 0, not 0"),
        ("vote('a', 1, 'softmax', 'x')", "temperature must be a finite number"),
        ("vote_value('a', 1)", "vote_value: value must be a finite number, not 'a'"),
        (
            "vote('a', 1, column1) from (values ('uniform'), ('distance'))",
            "must be the same for every row",
        ),
    ],
)
def test_refusals(empty: dbapi.Connection, call: str, message: str) -> None:
    with pytest.raises(sqlite3.OperationalError, match=message):
        value(empty, f"select {call}")


@pytest.mark.parametrize("weighting", ["uniform", "distance"])
def test_digits_are_classified_as_scikit_learn_does(
    db: dbapi.Connection, add_space: Fill, weighting: str
) -> None:
    from sklearn.datasets import load_digits
    from sklearn.neighbors import KNeighborsClassifier, KNeighborsRegressor

    images, labels = load_digits(return_X_y=True)
    images = images[:600]
    labels = labels[:600].astype(int)
    train, test = slice(0, 450), slice(450, 600)
    add_space("digits", images, metric="l2")
    db.executemany(
        "insert into item_labels (item_id, name, value, source) values (?, 'digit', ?, 'test')",
        [(i + 1, str(label)) for i, label in enumerate(labels)],
    )
    rows = db.execute(
        "select vote(cast(l.value as integer), k.distance, :weighting),"
        " vote_share(l.value, k.distance, :weighting),"
        " vote_value(cast(l.value as integer), k.distance, :weighting)"
        " from knn_batch('digits', 'select id from items where id > 450', 7,"
        "                'select id from items where id <= 450') k"
        " join item_labels l on l.item_id = k.id group by k.query order by k.query",
        {"weighting": weighting},
    ).fetchall()
    predicted, shares, values = (np.array(column) for column in zip(*rows, strict=True))

    classifier = KNeighborsClassifier(7, weights=weighting, algorithm="brute")
    classifier.fit(images[train], labels[train])
    probabilities = classifier.predict_proba(images[test])
    assert shares == pytest.approx(probabilities.max(axis=1), rel=1e-9)
    top_two = np.sort(probabilities, axis=1)[:, -2:]
    clear = top_two[:, 1] - top_two[:, 0] > 1e-9  # a tie is scikit-learn's lowest label
    assert clear.sum() > 140
    assert (predicted[clear] == classifier.predict(images[test])[clear]).all()

    regressor = KNeighborsRegressor(7, weights=weighting, algorithm="brute")
    regressor.fit(images[train], labels[train])
    assert values == pytest.approx(regressor.predict(images[test]), rel=1e-9)
