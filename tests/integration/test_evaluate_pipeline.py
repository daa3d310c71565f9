"""`nearsql evaluate`: what it reads, writes, refuses, and how it goes on when it was stopped."""

import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ninety import N, few, parameters

from nearsql import migrations
from nearsql.migrations.migrations import statements
from nearsql.pipeline.console import UserError
from nearsql.pipeline.evaluate import run
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import connection, dbapi, evaluation_neighbors
from nearsql.udfs.evaluation_neighbors import graph_width


@pytest.fixture
def db(ninety_path: Path) -> Iterator[dbapi.Connection]:
    with closing(connection.connect(ninety_path)) as opened:
        yield opened


def count(db: dbapi.Connection, table: str, run_id: int) -> int:
    return int(
        db.execute(f"select count(*) from {table} where run_id = ?", (run_id,)).fetchone()[0]
    )


def test_everything_is_rows(db: dbapi.Connection) -> None:
    found = few(db, "a", "b", ks=[4, 1, 4], weightings=["uniform", "softmax"], seed=5)
    n = N - 2  # what both spaces have
    assert count(db, "folds", found.run_id) == n
    assert count(db, "cv_neighbors", found.run_id) == 2 * n
    assert count(db, "cv_predictions", found.run_id) == 2 * n * 2 * 2
    assert count(db, "cv_metrics", found.run_id) == 2 * 2 * 2 * 4 * 6
    recorded = parameters(db, found.run_id)
    assert recorded.pop("data_sha256")
    assert recorded == {
        "spaces": ["a", "b"],
        "label": "kind",
        "target": None,
        "detect_run": None,
        "group_by": None,
        "k": [1, 4],
        "weighting": ["uniform", "softmax"],
        "temperature": 0.07,
        "folds": 5,
        "within": None,
    }
    assert found.counts == {"items": n, "labels": 3}
    kind, seed, status = db.execute(
        "select kind, seed, status from runs where id = ?", (found.run_id,)
    ).fetchone()
    assert (kind, seed, status) == ("evaluate", 5, "finished")
    inputs = db.execute(
        "select kind, name from run_inputs where run_id = ? order by id", (found.run_id,)
    ).fetchall()
    assert inputs == [("space", "a"), ("space", "b")]
    widths = db.execute("select distinct length(neighbor_ids) from cv_neighbors").fetchall()
    assert widths == [(4 * 8,)]  # once for all k


def test_a_stored_graph_is_read_and_noted(
    db: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    computed = few(db)
    width = graph_width(np.arange(N - 1) % 5, 4)
    (graph,) = neighbors(db, ["a"], k=width)
    monkeypatch.setattr(evaluation_neighbors, "is_worthwhile", _must_not_be_called)
    again = few(db)
    assert again.graph_run == graph.run_id
    inputs = db.execute(
        "select input_run_id from run_inputs where run_id = ? and kind = 'run'", (again.run_id,)
    ).fetchall()
    assert inputs == [(graph.run_id,)]
    assert _hash(db, again.run_id) == _hash(db, computed.run_id)


def _must_not_be_called(*_: Any) -> Any:
    raise AssertionError("it was computed once more")


def _hash(db: dbapi.Connection, run_id: int) -> str:
    (found,) = db.execute("select result_sha256 from runs where id = ?", (run_id,)).fetchone()
    assert found
    return str(found)


def test_a_stopped_run_goes_on(db: dbapi.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = few(db, "a", "b")
    write = run.write_predictions
    calls: list[int] = []

    def stops(*arguments: Any) -> None:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        write(*arguments)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "write_predictions", stops)
        few(db, "a", "b")
    stopped, status = db.execute("select id, status from runs order by id desc limit 1").fetchone()
    assert status == "interrupted"
    assert count(db, "cv_metrics", stopped) == 0  # nothing looks complete
    searched: list[str] = []
    search = run.voters

    def noted(*arguments: Any) -> Any:
        searched.append(arguments[1].name)
        return search(*arguments)

    monkeypatch.setattr(run, "voters", noted)
    found = few(db, "a", "b")
    assert found.run_id == stopped
    assert searched == ["b"]  # the voters of `a` were stored
    assert _hash(db, stopped) == _hash(db, whole.run_id)
    for table in ("folds", "cv_neighbors", "cv_predictions", "cv_metrics"):
        assert count(db, table, stopped) == count(db, table, whole.run_id)


def test_what_was_relabelled_is_not_gone_on_with(
    db: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(run, "write_predictions", _interrupts)
        few(db)
    (stopped,) = db.execute("select max(id) from runs").fetchone()
    db.execute("update item_labels set value = 'y' where item_id = 1 and name = 'kind'")
    db.commit()
    assert few(db).run_id != stopped


def _interrupts(*_: Any) -> None:
    raise KeyboardInterrupt


def test_a_space_that_changes_meanwhile(
    db: dbapi.Connection, ninety_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changes(*_: Any) -> Any:
        with closing(connection.connect(ninety_path)) as other, other:
            other.execute("delete from vectors where item_id = 3")
        return iter(())

    monkeypatch.setattr(run, "metric_rows", changes)
    with pytest.raises(UserError, match="changed during this run"):
        few(db)
    (status,) = db.execute("select status from runs order by id desc limit 1").fetchone()
    assert status == "failed"


@pytest.mark.parametrize(
    ("group_by", "group_of"),
    [
        ("collection", lambda item: f"part {(item - 1) % 10}"),
        ("metadata:camera", lambda item: str((item - 1) // 9) if (item - 1) % 9 else None),
        ("label:kind", lambda item: "xyz"[(item - 1) % 3]),
    ],
)
def test_groups_share_a_fold(db: dbapi.Connection, group_by: str, group_of: Any) -> None:
    label, target = (None, "label:age") if group_by == "label:kind" else ("kind", None)
    found = few(db, group_by=group_by, folds=3, label=label, target=target)
    rows = db.execute(
        "select item_id, fold, group_key from folds where run_id = ?", (found.run_id,)
    ).fetchall()
    assert [group for _, _, group in rows] == [group_of(item) for item, _, _ in rows]
    folds: dict[str, set[int]] = {}
    for _, fold, group in rows:
        folds.setdefault(group, set()).add(fold)
    assert all(len(of) == 1 for group, of in folds.items() if group is not None)
    alone = [group for _, _, group in rows].count(None)
    assert found.counts["groups"] == len(folds.keys() - {None}) + alone


def test_duplicates_in_any_space_share_a_fold(db: dbapi.Connection) -> None:
    found = few(db, "a", "b", group_by="duplicates")
    thresholds = parameters(db, found.run_id)["duplicate_thresholds"]
    assert thresholds.keys() == {"a", "b"}
    assert thresholds == found.thresholds
    folds = dict(
        db.execute("select item_id, fold from folds where run_id = ?", (found.run_id,)).fetchall()
    )
    assert folds[2] == folds[62]
    groups = dict(
        db.execute(
            "select item_id, group_key from folds where run_id = ?", (found.run_id,)
        ).fetchall()
    )
    assert groups[2] == groups[62] is not None
    assert replay(db, found.run_id).is_same


def test_within_a_selection(db: dbapi.Connection) -> None:
    found = few(db, within="select id from items where id between 11 and 50", ks=[1, 30, 200])
    assert parameters(db, found.run_id)["within_items"] == 40
    assert parameters(db, found.run_id)["k"] == [1, 30]  # there are 32 in other folds
    (least, most) = db.execute(
        "select min(item_id), max(item_id) from folds where run_id = ?", (found.run_id,)
    ).fetchone()
    assert (least, most) == (11, 50)


def test_replay(db: dbapi.Connection) -> None:
    found = few(db, "a", "b", weightings=["uniform", "loss:box"])
    again = replay(db, found.run_id)
    assert again.is_same
    assert again.different_rows == 0
    assert {table.table for table in again.tables} == {
        "folds",
        *(f"{t} of {s}" for t in ("cv_neighbors", "cv_predictions", "cv_metrics") for s in "ab"),
    }
    db.execute(
        "update cv_predictions set y_pred = 'w' where run_id = ? and item_id = 7 and k = 4",
        (found.run_id,),
    )
    db.commit()
    assert replay(db, found.run_id).different_rows == 4
    db.execute("update item_labels set value = 'y' where item_id = 4 and name = 'kind'")
    db.commit()
    with pytest.raises(CannotReplay, match="have changed since"):
        replay(db, found.run_id)


@pytest.mark.parametrize(
    ("options", "sentence"),
    [
        ({"label": None}, "give either --label NAME or --target NUMBER"),
        ({"target": "mean_iou"}, "give either --label NAME or --target NUMBER"),
        ({"label": "colour"}, "no item has a label 'colour': the labels are age, kind"),
        ({"label": None, "target": "colour"}, "--target must be one of mean_iou, mean_iou_gt"),
        ({"label": None, "target": "dice_score"}, "has measured dice_score of no image"),
        ({"label": None, "target": "loss:seg"}, "has no loss 'seg': it has box, odd"),
        (
            {"label": None, "target": "label:kind"},
            "label:kind must be numbers, and of item 1 it is",
        ),
        ({"label": None, "target": "mean_iou", "detect_run": 99}, "must be a finished detect run"),
        ({"detect_run": 1}, "--detect-run is for targets and weightings that a detector measured"),
        ({"ks": [0]}, "-k must be whole numbers of at least 1"),
        ({"ks": [80]}, "-k 80: an item has no more than 71 items in other folds"),
        (
            {"weightings": ["loss:"]},
            "--weighting must be some of uniform, distance, softmax or loss",
        ),
        ({"weightings": []}, "--weighting must be some of"),
        ({"weightings": ["loss:odd"]}, "needs losses of at least 0, and the least is -1.0"),
        ({"temperature": 0}, "--temperature must be a number above 0, not 0"),
        ({"folds": 1}, "--folds must be at least 2, not 1"),
        ({"folds": 31}, "--folds 31 needs a label of as many items, and the most frequent has 30"),
        ({"folds": 90}, "--folds 90 needs as many items, and 89 can be judged"),
        ({"folds": 4, "group_by": "kind"}, "needs as many groups, and --group-by gives 1"),
        ({"group_by": "colour"}, "--group-by must be duplicates, collection"),
        ({"group_by": "metadata:colour"}, "no item that can be judged has one"),
        ({"seed": -1}, "--seed must be from 0"),
        ({"within": "select 90"}, "no item of --within with label 'kind' has a vector in a"),
    ],
)
def test_refusals(db: dbapi.Connection, options: dict[str, Any], sentence: str) -> None:
    (before,) = db.execute("select count(*) from runs").fetchone()
    with pytest.raises(UserError) as refusal:
        few(db, **options)
    assert sentence in str(refusal.value)
    assert db.execute("select count(*) from runs").fetchone() == (before,)


def test_inner_products_are_no_distances(db: dbapi.Connection) -> None:
    with pytest.raises(UserError, match="space 'products' has the metric ip"):
        few(db, "products", weightings=["distance"])
    found = few(db, "products", weightings=["uniform", "softmax"])
    assert count(db, "cv_predictions", found.run_id) == N * 2 * 2


def test_metrics_that_are_not_defined_say_why(db: dbapi.Connection) -> None:
    db.execute("update item_labels set value = '3' where name = 'age'")
    db.commit()
    found = few(db, label=None, target="label:age")
    reasons = {(row.metric, row.value, row.reason) for row in found.metrics["a"]}
    assert reasons == {
        ("mae", 0.0, None),
        ("r2", None, "all true values are the same"),
        ("spearman", None, "all true values are the same"),
    }


def test_older_files_keep_their_predictions(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "older.db")) as db:
        for step in migrations.step_files()[:17]:
            for statement in statements(step.read_text(encoding="utf-8")):
                db.execute(statement)
        db.execute("insert into runs (id, kind) values (1, 'evaluate')")
        db.execute(
            "insert into spaces (id, name, kind, dimensions, metric)"
            " values (1, 's', 'embedding', 3, 'l2')"
        )
        db.execute(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (1, 'text', 'c', printf('%064x', 1), 'text', 0)"
        )
        db.execute(
            "insert into cv_predictions values (1, 1, 5, 'uniform', 1, 0, 'x', 'y', 0.5, '[]')"
        )
        for statement in statements(migrations.step_files()[17].read_text(encoding="utf-8")):
            db.execute(statement)
        assert db.execute("select * from cv_predictions").fetchall() == [
            (1, 1, 5, "uniform", 1, 0, "x", "y", 0.5)
        ]
