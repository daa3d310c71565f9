"""`nearsql evaluate`: what it reads, writes, refuses, and how it goes on when it was stopped."""

import csv
import io
import json
import shlex
import shutil
import sqlite3
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nearsql import migrations
from nearsql.migrations.migrations import statements
from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.evaluate import Evaluation, evaluate, run
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.pipeline.runs import immediate
from nearsql.pipeline.runs import run as start_run
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi, evaluation_neighbors
from nearsql.udfs.evaluation_neighbors import graph_width

N = 90


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Ninety items in three clusters. Space `a` has all but the last, `b` all but the first, `products` is
    of metric ip. A detector has measured two of three items. Nobody writes to it."""
    path = tmp_path_factory.mktemp("evaluate") / "made.db"
    rng = np.random.default_rng(3)
    kinds = np.arange(N) % 3
    vectors = (np.eye(3)[kinds] * 2 + rng.normal(size=(N, 3))).astype("<f4")
    vectors[61] = vectors[1]  # a duplicate
    with closing(connection.create(path)) as db:
        with immediate(db):
            db.executemany(
                "insert into items (id, kind, collection, sha256, content, sequence_number,"
                " metadata_json) values (?1, 'text', ?2, printf('%064x', ?1), 'text', ?1, ?3)",
                (
                    (i + 1, f"part {i % 10}", json.dumps({"camera": i // 9} if i % 9 else {}))
                    for i in range(N)
                ),
            )
            db.executemany(
                "insert into item_labels (item_id, name, value, source) values (?, ?, ?, 'test')",
                [(i + 1, "kind", "xyz"[k]) for i, k in enumerate(kinds)]
                + [(i + 1, "age", str(k + i / N)) for i, k in enumerate(kinds)],
            )
            for name, metric, items in (
                ("a", "l2", range(N - 1)),
                ("b", "cosine", range(1, N)),
                ("products", "ip", range(N)),
            ):
                space = db.execute(
                    "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', 3, ?)",
                    (name, metric),
                ).lastrowid
                assert space is not None
                insert_vectors(db, space, None, [(i + 1, vectors[i].tobytes()) for i in items])
            model = db.execute("insert into models (name, family) values ('m', 'yolo')").lastrowid
        for shift in (0.0, 0.5):  # two detect runs, of which the second is the newest
            with start_run(db, "detect", parameters={}, model_id=model) as current, immediate(db):
                db.executemany(
                    "insert into image_metrics (run_id, item_id, n_pred, mean_iou)"
                    " values (?, ?, 1, ?)",
                    [(current.id, i + 1, (i % 7) / 20 + shift) for i in range(N) if i % 3],
                )
                db.executemany(
                    "insert into losses (run_id, item_id, component, value, reason)"
                    " values (?, ?, ?, ?, ?)",
                    [
                        (current.id, i + 1, "box", i % 5 + shift, None)
                        if i % 3
                        else (current.id, i + 1, "box", None, "no object")
                        for i in range(N)
                    ]
                    + [(current.id, 1, "odd", -1.0, None)],
                )
    return path


@pytest.fixture
def path(made: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(made, tmp_path / "items.db"))


@pytest.fixture
def db(path: Path) -> Iterator[dbapi.Connection]:
    with closing(connection.connect(path)) as opened:
        yield opened


def few(db: dbapi.Connection, *spaces: str, **options: Any) -> Evaluation:
    given = {"label": "kind", "ks": [1, 4], "weightings": ["uniform"], **options}
    return evaluate(db, spaces or ["a"], **given)


def count(db: dbapi.Connection, table: str, run_id: int) -> int:
    return int(
        db.execute(f"select count(*) from {table} where run_id = ?", (run_id,)).fetchone()[0]
    )


def parameters(db: dbapi.Connection, run_id: int) -> dict[str, Any]:
    (text,) = db.execute("select parameters_json from runs where id = ?", (run_id,)).fetchone()
    found: dict[str, Any] = json.loads(text)
    return found


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
    db: dbapi.Connection, path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def changes(*_: Any) -> Any:
        with closing(connection.connect(path)) as other, other:
            other.execute("delete from vectors where item_id = 3")
        return iter(())

    monkeypatch.setattr(run, "metric_rows", changes)
    with pytest.raises(UserError, match="changed during this run"):
        few(db)
    (status,) = db.execute("select status from runs order by id desc limit 1").fetchone()
    assert status == "failed"


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


def test_command(path: Path) -> None:
    words = ["evaluate", str(path), "a", "b", "--label", "kind", "-k", "1,4"]
    outcome = CliRunner().invoke(cli, [*words, "--weighting", "uniform,softmax", "--csv"])
    assert outcome.exit_code == 0, outcome.output
    rows = list(csv.DictReader(io.StringIO(outcome.stdout)))
    assert [(row["space"], row["weighting"], row["k"]) for row in rows] == [
        (space, weighting, k)
        for space in "ab"
        for weighting in ("uniform", "softmax")
        for k in "14"
    ]
    assert "best of a" in outcome.stderr
    (line,) = (line for line in outcome.stderr.splitlines() if "next: " in line)
    command = shlex.split(line.partition("next: nearsql ")[2])
    after = CliRunner().invoke(cli, [*command, "--nl"])
    assert after.exit_code == 0, after.output
    confused = [json.loads(line) for line in after.stdout.splitlines()]
    assert confused
    assert all(row["y_true"] != row["y_pred"] for row in confused)


def test_command_refuses_what_is_no_list(path: Path) -> None:
    outcome = CliRunner().invoke(cli, ["evaluate", str(path), "a", "--label", "kind", "-k", "1,x"])
    assert outcome.exit_code == 2
    assert "'1,x' is not K,K,..." in outcome.stderr


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
