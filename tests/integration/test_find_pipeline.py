"""nearsql find stores what the SQL functions find, with evidence, and keeps what a person decided."""

import json
import shutil
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result

from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.console import UserError
from nearsql.pipeline.find import find
from nearsql.pipeline.find import run as module
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import connection, dbapi

N = 90
EVERYTHING = ("duplicates", "outliers", "label_errors", "leaks", "cluster_outliers")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three heaps of points with copies, one point far from all, wrong labels, and a split; clustered by
    run 1."""
    path = tmp_path_factory.mktemp("find") / "heaps.db"
    db = connection.create(path)
    rng = np.random.default_rng(3)
    heaps = rng.integers(0, 3, N)
    vectors = rng.normal(size=(N, 4)) + 9 * np.eye(3, 4)[heaps]
    vectors[80:86] = vectors[10:16] + 0.001  # near copies: items 81 to 86 of 11 to 16
    vectors[86] = vectors[20]  # 87 of 21
    heaps[80:86], heaps[86] = heaps[10:16], heaps[20]
    vectors[89] = 40  # item 90 is far from all
    labels = heaps.copy()
    wrong = [4, 33, 57, 71]
    labels[wrong] = (labels[wrong] + 1) % 3
    db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('s', 'embedding', 4, 'l2')"
    )
    for place, vector in enumerate(vectors.astype("<f4")):
        item = place + 1
        db.execute(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'tests', ?, ?, ?)",
            (item, f"{item:064x}", f"text {item}", place),
        )
        db.execute(
            "insert into vectors (space_id, item_id, vector) values (1, ?, ?)",
            (item, vector.tobytes()),
        )
        for name, value in (
            ("heap", "abc"[labels[place]]),
            ("split", "test" if place in (80, 81, 5) else "train"),
        ):
            db.execute(
                "insert into item_labels (item_id, name, value, source) values (?, ?, ?, 'test')",
                (item, name, value),
            )
    db.commit()
    cluster_spaces(db, ["s"], min_cluster_size=8)
    db.close()
    return path


@pytest.fixture
def path(built: Path, tmp_path: Path) -> Path:
    return Path(shutil.copy(built, tmp_path / "heaps.db"))


@pytest.fixture
def heaps(path: Path) -> Iterator[dbapi.Connection]:
    db = connection.connect(path)
    yield db
    db.close()


def found_by(db: dbapi.Connection, run_id: int, kind: str) -> list[tuple[Any, ...]]:
    """(item, other, score, evidence), the surest first."""
    rows = db.execute(
        "select item_id, other_item_id, score, evidence_json from findings"
        " where run_id = ? and kind = ? order by score desc, item_id",
        (run_id, kind),
    )
    return [(*row[:3], json.loads(row[3])) for row in rows]


def decide(db: dbapi.Connection, run_id: int, kind: str, item: int, decision: str) -> None:
    done = db.execute(
        "update findings set decision = ?, decided_at = '2026-01-01T00:00:00Z'"
        " where run_id = ? and kind = ? and ? in (item_id, other_item_id)",
        (decision, run_id, kind, item),
    )
    assert done.rowcount == 1
    db.commit()


def decisions(db: dbapi.Connection, run_id: int) -> dict[tuple[str, int], str]:
    rows = db.execute(
        "select kind, item_id, decision, decided_at from findings"
        " where run_id = ? and decision is not null",
        (run_id,),
    )
    return {(kind, item): decision for kind, item, decision, at in rows if at is not None}


def invoke(path: Path, *words: object) -> Result:
    return CliRunner().invoke(cli, ["find", str(path), *map(str, words)])


def test_findings_are_what_the_functions_give(heaps: dbapi.Connection) -> None:
    found = find(heaps, "s", EVERYTHING, label="heap")
    (limit,) = heaps.execute("select near_threshold('s')").fetchone()
    assert found.thresholds["near"] == limit
    duplicates = heaps.execute(
        "select id, neighbor_id, distance, group_id from duplicates('s') where id <> group_id"
    ).fetchall()
    assert {row[0] for row in duplicates} == set(range(81, 88))
    stored = found_by(heaps, found.run_id, "duplicate")
    assert {(i, j, e["distance"], e["group"]) for i, j, _, e in stored} == set(duplicates)
    assert [score for _, _, score, _ in stored] == [
        pytest.approx(1 - e["distance"] / limit) for *_, e in stored
    ]
    outliers = heaps.execute("select * from outliers('s', 10) where z_score > 3.5").fetchall()
    stored = found_by(heaps, found.run_id, "outlier")
    assert [(i, e["distance"], score) for i, _, score, e in stored] == outliers
    assert outliers[0][0] == 90
    errors = heaps.execute(
        "select id, given, suggested, confidence from label_errors('s', 'heap') where is_error"
    ).fetchall()
    assert {58, 72} <= {row[0] for row in errors} <= {5, 34, 58, 72}
    stored = found_by(heaps, found.run_id, "label_error")
    assert {(i, e["given"], e["suggested"], score) for i, _, score, e in stored} == set(errors)
    stored = found_by(heaps, found.run_id, "leak")
    leaks = heaps.execute(
        "select id, value, neighbor_id, neighbor_value, distance from leaks('s', 'split')"
    ).fetchall()
    assert {(i, e["value"], j, e["other_value"], e["distance"]) for i, j, _, e in stored} == {
        row for row in leaks if row[0] < row[2]
    }
    assert {(i, j) for i, j, *_ in stored} == {(11, 81), (12, 82)}
    stored = found_by(heaps, found.run_id, "cluster_outlier")
    scores = dict(heaps.execute("select item_id, outlier_score from memberships where run_id = 1"))
    assert stored[0][0] == 90
    limit = found.thresholds["cluster_outlier"]
    assert limit is not None
    assert {i for i, *_ in stored} == {i for i, score in scores.items() if score > limit}
    assert found.counts["items"] == N
    assert {kind: found.counts[kind] for kind in EVERYTHING} == {
        kind: len(found_by(heaps, found.run_id, kind[:-1])) for kind in EVERYTHING
    }


def test_evidence_says_what_was_compared(heaps: dbapi.Connection) -> None:
    run_id = find(heaps, "s", ["label_errors", "outliers"], label="heap", k=4).run_id
    labels = dict(heaps.execute("select item_id, value from item_labels where name = 'heap'"))
    for kind in ("label_error", "outlier"):
        for item, other, _, evidence in found_by(heaps, run_id, kind):
            assert other is None
            near = heaps.execute("select id, distance from knn('s', ?, 4)", (item,)).fetchall()
            assert evidence["neighbors"] == [
                {"id": i, "distance": distance, "label": labels[i]} for i, distance in near
            ]
            assert (evidence["space"], evidence["metric"], evidence["k"]) == ("s", "l2", 4)
            assert "threshold" in evidence
    (item, _, _, evidence), *_ = found_by(heaps, run_id, "label_error")
    assert evidence["given"] == labels[item]
    votes = [n["label"] for n in evidence["neighbors"]]
    assert evidence["confidence"] == 1 - votes.count(labels[item]) / 4


def test_thresholds_are_recorded_with_the_run(heaps: dbapi.Connection) -> None:
    found = find(heaps, "s", label="heap")
    parameters, counts = heaps.execute(
        "select parameters_json, counts_json from runs where id = ?", (found.run_id,)
    ).fetchone()
    assert json.loads(parameters)["threshold"] is None
    assert json.loads(parameters)["kinds"] == ["duplicates", "outliers", "label_errors", "leaks"]
    assert json.loads(counts)["near_threshold"] == found.thresholds["near"]
    asked = find(heaps, "s", ["duplicates"], threshold=2.0)
    assert asked.thresholds == {"near": 2.0}
    rows = found_by(heaps, asked.run_id, "duplicate")
    assert len(rows) > 7
    assert {e["threshold"] for *_, e in rows} == {2.0}


def test_what_a_person_decided_stays(heaps: dbapi.Connection) -> None:
    first = find(heaps, "s", label="heap").run_id
    decide(heaps, first, "duplicate", 83, "keep")
    decide(heaps, first, "label_error", 58, "dismiss")
    decide(heaps, first, "label_error", 72, "dismiss")
    decide(heaps, first, "leak", 82, "dismiss")
    decided = decisions(heaps, first)
    assert len(decided) == 4
    second = find(heaps, "s", label="heap")
    assert second.counts["decided"] == 4
    assert decisions(heaps, second.run_id) == decided
    # The last word counts, and a run in between that looked for something else does not.
    decide(heaps, second.run_id, "duplicate", 83, "dismiss")
    find(heaps, "s", ["outliers"])
    third = find(heaps, "s", label="heap").run_id
    assert decisions(heaps, third) == decided | {("duplicate", 83): "dismiss"}
    # Who changed a label was not asked about the new one.
    heaps.execute(
        "update item_labels set value = case value when 'a' then 'c' else 'a' end"
        " where item_id = 72 and name = 'heap'"
    )
    heaps.commit()
    fourth = find(heaps, "s", label="heap").run_id
    assert ("label_error", 72) not in decisions(heaps, fourth)
    assert ("label_error", 58) in decisions(heaps, fourth)


def test_a_decision_stays_when_a_pair_is_told_the_other_way_round(heaps: dbapi.Connection) -> None:
    first = find(heaps, "s", ["leaks"]).run_id
    heaps.execute(
        "update findings set item_id = other_item_id, other_item_id = item_id, decision = 'keep',"
        " decided_at = 'then' where run_id = ?",
        (first,),
    )
    heaps.commit()
    second = find(heaps, "s", ["leaks"]).run_id
    assert set(decisions(heaps, second)) == {("leak", 11), ("leak", 12)}


def test_it_replays_whatever_was_decided(heaps: dbapi.Connection) -> None:
    run_id = find(heaps, "s", EVERYTHING, label="heap", weighting="softmax", temperature=0.5).run_id
    decide(heaps, run_id, "duplicate", 83, "dismiss")
    heaps.execute("update spaces set name = 'renamed'")
    heaps.commit()
    again = replay(heaps, run_id)
    assert again.is_same
    assert again.different_rows == 0
    heaps.execute("update findings set score = score / 2 where kind = 'outlier' and item_id = 90")
    heaps.commit()
    again = replay(heaps, run_id)
    assert (again.is_same, again.different_rows) == (True, 1)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        (
            "update item_labels set value = 'a' where name = 'heap' and item_id <= 40",
            "read what items are called by 'heap', and that has changed since",
        ),
        ("delete from item_labels where name = 'heap'", "read labels that are no more"),
        (
            "update item_labels set value = 'test' where name = 'split' and item_id = 3",
            "read what items are called by 'split', and that has changed since",
        ),
        ("delete from runs where id = 1", "the clustering that run 2 read is deleted"),
        ("update vectors set vector = zeroblob(16) where item_id = 3", "have changed"),
    ],
)
def test_what_changed_since_keeps_it_from_a_replay(
    heaps: dbapi.Connection, change: str, sentence: str
) -> None:
    run_id = find(heaps, "s", EVERYTHING, label="heap").run_id
    heaps.execute(change)
    heaps.commit()
    with pytest.raises(CannotReplay, match=sentence):
        replay(heaps, run_id)


@pytest.mark.parametrize(
    ("change", "sentence"),
    [
        ("update vectors set vector = zeroblob(16) where item_id = 3", "changed during this run"),
        ("update item_labels set value = 'd' where item_id = 3", "labels changed during this run"),
    ],
)
def test_nothing_is_written_about_what_changed_meanwhile(
    path: Path,
    heaps: dbapi.Connection,
    monkeypatch: pytest.MonkeyPatch,
    change: str,
    sentence: str,
) -> None:
    compute = module.compute

    def meanwhile(*args: Any, **options: Any) -> Any:
        found = compute(*args, **options)
        other = connection.connect(path)
        other.execute(change)
        other.commit()
        other.close()
        return found

    monkeypatch.setattr(module, "compute", meanwhile)
    with pytest.raises(UserError, match=sentence):
        find(heaps, "s", label="heap")
    assert heaps.execute("select count(*) from findings").fetchone() == (0,)
    assert heaps.execute("select status from runs where id = 2").fetchone() == ("failed",)


def test_stopped_in_the_middle_of_writing_it_leaves_nothing(
    heaps: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    def stop(*args: Any) -> Any:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("nearsql.pipeline.find.store.read_sql", stop)  # after the rows
        with pytest.raises(KeyboardInterrupt):
            find(heaps, "s")
    assert heaps.execute("select count(*) from findings").fetchone() == (0,)
    assert heaps.execute("select status from runs where id = 2").fetchone() == ("interrupted",)
    assert find(heaps, "s").counts["duplicates"] == 7


def test_within_limits_it_and_is_recorded(heaps: dbapi.Connection) -> None:
    heaps.execute("insert into selections (name, how) values ('early', 'ids')")
    heaps.execute("insert into selection_items select 1, id from items where id <= 85")
    heaps.commit()
    found = find(heaps, "s", ["duplicates", "cluster_outliers"], within="early")
    assert found.counts["items"] == 85
    assert {i for i, *_ in found_by(heaps, found.run_id, "duplicate")} == set(range(81, 86))
    assert 90 not in {i for i, *_ in found_by(heaps, found.run_id, "cluster_outlier")}
    (parameters,) = heaps.execute(
        "select parameters_json from runs where id = ?", (found.run_id,)
    ).fetchone()
    assert json.loads(parameters)["within"] == "early"
    assert replay(heaps, found.run_id).is_same
    heaps.execute("delete from selection_items where item_id = 7")
    heaps.commit()
    with pytest.raises(CannotReplay, match="'early', which has changed since"):
        replay(heaps, found.run_id)


def test_a_stored_graph_is_read_and_named(heaps: dbapi.Connection) -> None:
    searched = find(heaps, "s", label="heap")
    graph = neighbors(heaps, ["s"], k=10)[0].run_id
    read = find(heaps, "s", label="heap")
    assert (searched.graph_run, read.graph_run) == (None, graph)
    inputs = heaps.execute("select input_run_id from run_inputs where run_id = ?", (read.run_id,))
    assert (graph,) in inputs.fetchall()
    hashes = heaps.execute("select count(distinct result_sha256) from runs where kind = 'find'")
    assert hashes.fetchone() == (1,)


def test_why_nothing_can_be_said_is_said(heaps: dbapi.Connection) -> None:
    # Corners of a square, far from each other: all equally far from their neighbours.
    square = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], "<f4")
    heaps.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('t', 'embedding', 2, 'l2')"
    )
    heaps.executemany(
        "insert into vectors (space_id, item_id, vector) values (2, ?, ?)",
        [(i + 1, v.tobytes()) for i, v in enumerate(square)],
    )
    heaps.commit()
    found = find(heaps, "t", ["outliers", "label_errors"], label="split", k=1)
    assert found.thresholds == {"outlier": None, "label_error": None}
    assert [reason.partition(":")[0] for reason in found.reasons] == ["outliers", "label_errors"]
    assert found.counts["outliers"] == 0


def test_rows_for_pipes(path: Path) -> None:
    done = invoke(path, "s", "--label", "heap", "--nl")
    assert done.exit_code == 0, done.output
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert {row["kind"] for row in rows} == {"duplicate", "outlier", "label_error", "leak"}
    assert all(row["evidence"]["space"] == "s" for row in rows)
    assert json.loads(invoke(path, "s", "--label", "heap", "--json").stdout)[0].keys() == (
        rows[0].keys()
    )
    header, first, *_ = invoke(path, "s", "outliers", "--csv").stdout.splitlines()
    assert header.endswith("evidence_json")
    assert first.split(",")[1:3] == ["outlier", "90"]


def test_what_a_person_reads(path: Path) -> None:
    done = invoke(path, "s", "--label", "heap")
    assert done.exit_code == 0, done.output
    assert "label_error" in done.stdout
    for line in ("near-duplicates are within", "outliers are beyond", "duplicates", "run 2"):
        assert line in done.stderr
    hint = done.stderr.splitlines()[-1]
    assert "update findings set decision" in hint


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["t"], "there is no space 't': the spaces are s"),
        (["s", "copies"], "there is no kind 'copies' of findings: they are duplicates, outliers"),
        (["s", "label_errors"], "label_errors needs --label NAME"),
        (["s", "--label", "colour"], "no item of space 's' has a label 'colour'"),
        (["s", "duplicates", "--label", "heap"], "--label is for label_errors and outliers"),
        (["s", "outliers", "--threshold", 1], "--threshold is for duplicates and leaks"),
        (["s", "outliers", "--split", "split"], "--split is for leaks"),
        (["s", "outliers", "--clustering", 1], "--clustering is for cluster_outliers"),
        (["s", "cluster_outliers", "--clustering", 9], "there is no run 9"),
        (["s", "--within", "[1]"], "s has 1 of the items asked for, and 2 are needed"),
        (["s", "leaks", "--within", "[1, 2]"], "all items have one value of the label 'split'"),
        (
            ["s", "--label", "heap", "--temperature", 0, "--weighting", "softmax"],
            "--temperature must be above 0",
        ),
    ],
)
def test_bad_requests_are_refused_in_one_sentence(
    path: Path, words: list[object], sentence: str
) -> None:
    done = invoke(path, *words)
    assert done.exit_code == 1
    assert sentence in str(done.exception)
    db = connection.connect(path)
    assert db.execute("select count(*) from runs").fetchone() == (1,)
    db.close()


def test_leaks_between_collections(heaps: dbapi.Connection) -> None:
    heaps.execute("delete from item_labels where name = 'split'")
    heaps.commit()
    assert "leaks" not in find(heaps, "s").counts
    with pytest.raises(UserError, match="all items have one collection, 'tests'"):
        find(heaps, "s", ["leaks"])
    heaps.execute("update items set collection = 'more' where id = 83")
    heaps.commit()
    found = find(heaps, "s")
    ((item, other, _, evidence),) = found_by(heaps, found.run_id, "leak")
    assert (item, other) == (13, 83)
    assert (evidence["label"], evidence["value"], evidence["other_value"]) == (
        None,
        "tests",
        "more",
    )
    with pytest.raises(sqlite3.IntegrityError):  # a finding is stored once
        heaps.execute(
            "insert into findings (run_id, kind, item_id, other_item_id)"
            " select run_id, kind, item_id, other_item_id from findings where kind = 'leak'"
        )
