"""`nearsql diff` of evaluations, detector runs and spaces: what a person and a pipe get."""

import csv
import io
import json
import shlex
import sqlite3
import subprocess
from collections.abc import Callable
from contextlib import closing
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from judged_runs import add_detector_run, add_evaluation

from nearsql.pipeline.cli import cli
from nearsql.pipeline.evaluate import evaluate
from nearsql.udfs import connection, dbapi

Fill = Callable[..., int]


def diff(*words: object) -> Result:
    return CliRunner().invoke(cli, ["diff", *map(str, words)])


def facts(done: Result) -> dict[str, str]:
    """The summary's facts by name; its title as `title`."""
    assert done.exit_code == 0, (done.output, done.exception)
    title, *lines = done.stderr.splitlines()
    found = {"title": title}
    for line in lines:
        name, _, value = line.strip().replace("next: ", "next  ").partition("  ")
        found[name] = value.strip()
    return found


def follow(done: Result) -> Result:
    """What the command says that the summary names as the next one."""
    words = shlex.split(facts(done)["next"])
    assert words[:2] == ["nearsql", "diff"]
    followed = diff(*words[2:])
    assert "next" not in facts(followed)
    return followed


@pytest.fixture(scope="module")
def evaluated(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three groups that space `good` tells apart and `poor` less so. Evaluations 1: both. 2: `good`, by
    other folds, without the last items. 3: the number of an item's group from both."""
    path = tmp_path_factory.mktemp("diff") / "evaluated.db"
    random = np.random.default_rng(0)
    groups = np.repeat([0, 1, 2], 30)
    good = groups[:, None] * 2.0 + random.normal(size=(90, 3))
    with closing(connection.create(path)) as db:
        for name, vectors in (
            ("good", good),
            ("poor", good * [1, 0.2, 0.2] + random.normal(size=(90, 3))),
        ):
            with db:
                space_id = db.execute(
                    "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', 3, 'l2')",
                    (name,),
                ).lastrowid
                for item, vector in enumerate(vectors.astype("<f4"), 1):
                    db.execute(
                        "insert or ignore into items (id, kind, collection, sha256, content,"
                        " sequence_number) values (?, 'text', 'tests', ?, ?, ?)",
                        (item, f"{item:064x}", f"text {item}", item),
                    )
                    db.execute(
                        "insert or ignore into item_labels (item_id, name, value, source)"
                        " values (?, 'group', ?, 'tests')",
                        (item, str(groups[item - 1])),
                    )
                    db.execute(
                        "insert into vectors (space_id, item_id, vector) values (?, ?, ?)",
                        (space_id, item, vector.tobytes()),
                    )
        both = ["good", "poor"]
        ways = {"ks": [1, 7], "weightings": ["uniform"]}
        evaluate(db, both, label="group", **ways)
        some = "select id from items where id <= 80"
        evaluate(
            db,
            ["good"],
            label="group",
            ks=[7],
            weightings=["uniform", "distance"],
            seed=5,
            within=some,
        )
        evaluate(db, both, target="label:group", **ways)
    return path


def test_two_spaces_of_an_evaluation(evaluated: Path) -> None:
    done = diff(evaluated, 1, 1)
    said = facts(done)
    assert said["title"] == "run 1 and itself"
    assert said["predicted"] == "label 'group'"
    assert said["items in both"] == "90"
    assert "in other folds" not in said
    assert said["test"].startswith("McNemar's, exact: p < 0.05 in ")
    header, _, *rows = done.stdout.splitlines()
    assert header.split() == [
        *("space_a", "space_b", "k_a", "weighting_a", "metric", "items", "value_a", "value_b"),
        *("gained", "lost", "other", "p_value"),
    ]
    assert [row.split()[:3] for row in rows] == [["good", "poor", "1"], ["good", "poor", "7"]]
    listed = follow(done)
    changes = [row.split()[1] for row in listed.stdout.splitlines()[2:]]
    assert changes == sorted(changes, key=["lost", "gained", "still"].index)
    lost = int(rows[1].split()[9])
    assert changes.count("lost") == lost > 0


def test_accuracies_are_those_of_the_evaluation(evaluated: Path) -> None:
    rows = json.loads(diff(evaluated, 1, 1, "--json").stdout)
    with closing(connection.connect(evaluated)) as db:
        stored = db.execute(
            "select s.name, m.k, m.value from cv_metrics m join spaces s on s.id = m.space_id"
            " where m.run_id = 1 and m.metric = 'accuracy' and m.fold is null"
        ).fetchall()
    assert {(r["space_a"], r["k_a"]): r["value_a"] for r in rows} | {
        (r["space_b"], r["k_b"]): r["value_b"] for r in rows
    } == pytest.approx({(space, k): value for space, k, value in stored})


def test_two_evaluations_of_different_items_and_folds(evaluated: Path) -> None:
    done = diff(evaluated, 1, 2)
    said = facts(done)
    assert said["items in both"] == "80"
    assert said["only in 1"] == "10"
    assert 0 < int(said["in other folds"].split(",")[0]) <= 80
    assert said["seed"] == "0 -> 5"
    assert said["k"] == "[1, 7] -> [7]"
    assert "best" not in said  # there is one row
    (row,) = csv.DictReader(io.StringIO(diff(evaluated, 1, 2, "--csv").stdout))
    assert (row["space_a"], row["k_a"], row["items"]) == ("good", "7", "80")


def test_numbers_by_their_errors(evaluated: Path) -> None:
    done = diff(evaluated, 3, 3, "-k", 7, "--space", "good", "--space-b", "poor")
    said = facts(done)
    assert said["predicted"] == "target 'label:group'"
    assert said["test"].startswith("Wilcoxon's signed-rank, of the absolute errors: p = ")
    lines = follow(diff(evaluated, 3, 3)).stdout.splitlines()
    assert {line.split()[1] for line in lines[2:]} <= {"closer", "farther", "as"}
    rows = json.loads(
        diff(
            evaluated, 3, 3, "-k", 7, "--space", "good", "--space-b", "poor", "--items", "--json"
        ).stdout
    )
    apart = [abs(abs(r["y_pred_b"] - r["y_true"]) - abs(r["y_pred_a"] - r["y_true"])) for r in rows]
    assert apart == sorted(apart, reverse=True)
    assert len(rows) > 10


def test_relabelled_items_are_left_out(db: dbapi.Connection, database: Path) -> None:
    same = {item: ("x", "x") for item in range(1, 4)}
    add_evaluation(db, {("s", 1, "uniform"): same})
    add_evaluation(db, {("s", 1, "uniform"): same | {3: ("y", "x")}}, seed=1)
    said = facts(diff(database, 1, 2))
    assert said["relabelled"] == "1, which are left out"
    assert said["in other folds"].startswith("3, ")
    assert said["test"] == "McNemar's, exact: none, neither is right on other items"
    assert "next" not in said


def test_two_detector_runs(db: dbapi.Connection, database: Path) -> None:
    values = {item: {"mean_iou_gt": item / 10} for item in range(1, 9)}
    better = {item: {"mean_iou_gt": item / 10 + 0.05 * (-1) ** (item == 3)} for item in values}
    losses = {item: {"box": 1.0} for item in values}
    a = add_detector_run(db, values, losses, conf=0.25, settings={"imgsz": 640})
    b = add_detector_run(
        db,
        better | {9: {"mean_iou_gt": 0.5}},
        losses,
        model="other",
        truth={1: "1"},
        conf=0.25,
        settings={"imgsz": 320},
    )
    done = diff(database, a, b)
    said = facts(done)
    assert said["images in both"] == "8"
    assert said["only in 2"] == "1"
    assert said["ground truth"] == "changed for 1, which are left out"
    assert said["mean_iou_gt"].startswith(
        "0.5 -> 0.5357 over 7 images, 6 improved, 1 regressed, p = 0."
    )
    assert said["settings.imgsz"] == "640 -> 320"
    assert said["model"] == "detector -> other"
    assert said["losses"] == "of two models, which may not be on one scale"
    assert "conf" not in said
    # The same weights under two names.
    weights = {"settings": {"checkpoint_sha256": "0" * 64}}
    one, other = (
        add_detector_run(db, values, losses, model=name, **weights) for name in ("large", "small")
    )
    said = facts(diff(database, one, other))
    assert said["model"] == "large -> small"
    assert "losses" not in said
    listed = follow(done)
    rows = [line.split()[:2] for line in listed.stdout.splitlines()[2:]]
    assert rows[0] == ["3", "regressed"]
    assert [change for _, change in rows[1:]] == ["improved"] * 6
    few = diff(database, a, b, "--metric", "mean_iou_gt", "--tolerance", 0.1)
    assert "same" in few.stdout
    assert "7 images, 0 improved, 0 regressed" in facts(few)["mean_iou_gt"]
    assert "next" not in facts(few)
    assert "next" in facts(diff(database, a, b, "--tolerance", 0.01))


def test_two_spaces(evaluated: Path) -> None:
    done = diff(evaluated, "good", "poor", "-k", 8)
    said = facts(done)
    with closing(connection.connect(evaluated)) as db:
        rows = db.execute(
            "select id, shared, overlap, jaccard from space_overlap('good', 'poor', 8)"
        )
        expected = rows.fetchall()
    overlaps = [overlap for _, _, overlap, _ in expected]
    assert said["title"] == "space good and space poor"
    assert said["neighbours"] == "8 of each item"
    assert said["overlap"] == (
        f"{np.mean(overlaps):.4f} in the mean, {np.median(overlaps):.4f} in the middle;"
        " by chance 0.0899"
    )
    assert said["jaccard"] == f"{np.mean([j for *_, j in expected]):.4f} in the mean"
    assert said["the same"].startswith(f"{overlaps.count(1)} items")
    rows = json.loads(diff(evaluated, "good", "poor", "-k", 8, "--json").stdout)
    counts = [shared for _, shared, _, _ in expected]
    assert {row["shared"]: row["items"] for row in rows} == {
        n: counts.count(n) for n in set(counts)
    }
    assert sum(row["share"] for row in rows) == pytest.approx(1)
    followed = facts(follow(done))
    assert followed["neighbours"] == "8 of each item"
    lines = diff(evaluated, "good", "poor", "-k", 8, "--items", "--nl").stdout
    jq = subprocess.run(["jq", ".item_id"], input=lines, capture_output=True, text=True, check=True)
    changed = sorted((row for row in expected if row[1] < 8), key=lambda row: (row[1], row[0]))
    assert [int(item) for item in jq.stdout.split()] == [row[0] for row in changed]
    assert json.loads(lines.splitlines()[0])["text"] == f"text {changed[0][0]}"


def test_spaces_within_a_selection(evaluated: Path) -> None:
    said = facts(diff(evaluated, "good", "poor", "--within", "select id from items where id < 8"))
    assert said["items in both"] == "7"
    assert said["neighbours"] == "6 of each item, all others"
    assert said["within"] == "select id from items where id < 8"
    assert "7 items have the same" in said["the same"]
    assert "next" not in said


def test_refusals_are_one_sentence(evaluated: Path) -> None:
    for words, sentence in (
        ((1, 3), "run 1 predicted label 'group', and run 3 target 'label:group': only"),
        ((1, 1, "--items"), "runs 1 and 1 can be compared by 2 settings: say which k (1, 7)"),
        ((1, 1, "-k", 3), "run 1 has no predictions by k 3: it has them by 1, 7"),
        (
            (1, 1, "--level", 1),
            "--level says nothing of evaluations, which are compared by -k, --k-b,",
        ),
        (("good", "none"), "there is no space 'none': the spaces are good, poor"),
        (("good", "poor", "--within", "no such"), "within: there is no selection 'no such'"),
        (("good", "poor", "--within", "[1]"), "spaces 'good' and 'poor' have 1 item in common"),
        (("good", "poor", "--metric", "fn"), "--metric says nothing of spaces, which"),
    ):
        done = diff(evaluated, *words)
        assert done.exit_code == 1, words
        assert str(done.exception).startswith(sentence), words


def test_nothing_is_written(evaluated: Path) -> None:
    def content() -> list[str]:
        with closing(sqlite3.connect(evaluated)) as db:
            return [line for line in db.iterdump() if line.startswith('INSERT INTO "runs"')]

    before = content()
    for words in ((1, 2), (3, 3), ("good", "poor")):
        assert diff(evaluated, *words).exit_code == 0
    assert content() == before
    assert len(before) == 3
