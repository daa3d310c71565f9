"""Evaluations of and by what a detector measured: its numbers as targets, its losses as weights, and who voted."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

import pytest
from ninety import few, parameters

from nearsql.udfs import connection, dbapi


@pytest.fixture
def db(ninety_path: Path) -> Iterator[dbapi.Connection]:
    with closing(connection.connect(ninety_path)) as opened:
        yield opened


def test_numbers_of_a_detector(db: dbapi.Connection) -> None:
    found = few(db, label=None, target="mean_iou", weightings=["uniform", "distance"])
    newest = db.execute("select max(id) from runs where kind = 'detect'").fetchone()[0]
    assert parameters(db, found.run_id)["detect_run"] == newest
    assert found.counts == {"items": 59}
    true = dict(
        db.execute("select item_id, mean_iou from image_metrics where run_id = ?", (newest,))
    )
    stored = db.execute(
        "select item_id, y_true, score from cv_predictions where run_id = ?", (found.run_id,)
    ).fetchall()
    assert all(y_true == true[item] and score is None for item, y_true, score in stored)
    other = few(db, label=None, target="mean_iou", detect_run=newest - 1)
    assert parameters(db, other.run_id)["detect_run"] == newest - 1
    losses = few(db, label=None, target="loss:box")
    assert losses.counts == {"items": 59}
    ages = few(db, label=None, target="label:age")
    (r2,) = (
        row.value for row in ages.metrics["a"] if (row.k, row.metric, row.fold) == (4, "r2", None)
    )
    assert r2 is not None
    assert 0.3 < r2 < 1


def test_votes_weighted_by_losses(db: dbapi.Connection) -> None:
    found = few(db, weightings=["loss:box"], ks=[1, 6])
    (detect_run,) = db.execute("select max(id) from runs where kind = 'detect'").fetchone()
    expected = db.execute(
        "select n.item_id, vote(l.value, n.distance, 1 / (1 + s.value)),"
        " vote_share(l.value, n.distance, 1 / (1 + s.value)) from evaluation_neighbors(?) n"
        " join item_labels l on l.item_id = n.neighbor_id and l.name = 'kind'"
        " join losses s on s.item_id = n.neighbor_id and s.run_id = ? and s.component = 'box'"
        " where s.value is not null and n.rank <= 6 group by 1 order by 1",
        (found.run_id, detect_run),
    ).fetchall()
    stored = db.execute(
        "select item_id, y_pred, score from cv_predictions where run_id = ? and k = 6 and y_pred"
        " is not null order by item_id",
        (found.run_id,),
    ).fetchall()
    assert stored == expected
    # A neighbour without a loss does not vote: for k = 1 some items hear nobody, and are misjudged.
    (silent,) = db.execute(
        "select count(*) from cv_predictions where run_id = ? and k = 1 and y_pred is null"
        " and score is null",
        (found.run_id,),
    ).fetchone()
    assert 0 < silent <= found.counts["unpredicted"]
    accuracy, by_hand = db.execute(
        "select (select value from cv_metrics where run_id = ?1 and k = 1 and fold is null and"
        " metric = 'accuracy'), accuracy(y_true, y_pred) from cv_predictions"
        " where run_id = ?1 and k = 1",
        (found.run_id,),
    ).fetchone()
    assert accuracy == by_hand


@pytest.mark.parametrize("weighting", ["uniform", "distance", "softmax", "loss:box"])
def test_weights_of_votes_are_those_that_counted(db: dbapi.Connection, weighting: str) -> None:
    found = few(db, weightings=["uniform", "distance", "softmax", "loss:box"])
    expected = db.execute(
        "select item_id, y_pred, score from cv_predictions where run_id = ? and k = 4"
        " and weighting = ? and y_pred is not null order by item_id",
        (found.run_id, weighting),
    ).fetchall()
    by_hand = db.execute(
        "select n.item_id, vote(l.value, n.distance, n.weight),"
        " vote_share(l.value, n.distance, n.weight)"
        " from evaluation_neighbors(?, 'a', null, ?) n"
        " join item_labels l on l.item_id = n.neighbor_id and l.name = 'kind'"
        " where n.weight is not null group by 1 order by 1",
        (found.run_id, weighting),
    ).fetchall()
    assert by_hand == expected


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("{both}", "evaluated several spaces, name one of them: 'a', 'b'"),
        ("{both}, 'c'", "space 'c' is not what run"),
        ("1", "run 1 is of kind 'detect', not 'evaluate'"),
        ("99", "there is no run 99: evaluations have numbers"),
        ("{both}, 'a', 'x'", "item must be a whole number"),
        ("{both}, 'a', 1, 'softmax'", "weighting must be one of uniform, not 'softmax'"),
    ],
)
def test_voters_that_are_not_there(db: dbapi.Connection, arguments: str, sentence: str) -> None:
    both = few(db, "a", "b").run_id
    with pytest.raises(sqlite3.OperationalError) as refusal:
        db.execute(f"select * from evaluation_neighbors({arguments.format(both=both)})").fetchall()
    assert sentence in str(refusal.value)


def test_damaged_voters_are_refused(db: dbapi.Connection) -> None:
    run_id = few(db).run_id
    (voters,) = db.execute(
        "select count(*) from evaluation_neighbors(?, 'a', 5)", (run_id,)
    ).fetchone()
    assert voters == 4
    db.execute(
        "update cv_neighbors set distances = cast(x'ffffffffffffff7f' || zeroblob(24) as blob)"
        " where item_id = 5"
    )
    with pytest.raises(sqlite3.OperationalError, match="the voters of item 5 are damaged"):
        db.execute("select * from evaluation_neighbors(?)", (run_id,)).fetchall()
