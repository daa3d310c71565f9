"""What an evaluation stores is what SQL says: by hand, by `vote`, and by the named questions.

docs/evaluation.md is true: what stands there runs, in the order in which it stands.
"""

import re
import shlex
from collections import Counter
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from evaluated import evaluate, fill, metrics_of, predictions_of, stored_neighbors
from sklearn.metrics import classification_report

from docs.example_database import build
from nearsql.pipeline.cli import cli
from nearsql.pipeline.runs import immediate, run
from nearsql.schema import query_files
from nearsql.udfs import connection, dbapi
from nearsql.udfs.vote_functions import Vote

PAGE = (Path(__file__).parents[2] / "docs" / "evaluation.md").read_text(encoding="utf-8")
SPACE = "digits/pixels"
KS = (1, 3, 5, 10, 20, 100, 200)
FEW_KS = (5, 20)  # of them, where SQL counts votes one by one
WEIGHTINGS = ("uniform", "distance", "softmax")


def steps() -> Iterator[tuple[str, str]]:
    """("command", words) or ("sql", statement), in the order of the page."""
    for block in re.finditer(
        r"```sql\n(.*?)```|^ {4,}(nearsql [^\n]*)$", PAGE, re.DOTALL | re.MULTILINE
    ):
        if block[2]:
            yield "command", block[2]
        else:
            for statement in re.sub(r"--.*", "", block[1]).split(";"):
                if statement.strip():
                    yield "sql", statement


@pytest.fixture(scope="module")
def example(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The documents' database, after all commands of the page that are about it."""
    path = tmp_path_factory.mktemp("evaluation") / "digits.db"
    build(path)
    return path


@pytest.fixture(scope="module")
def db(example: Path) -> Iterator[dbapi.Connection]:
    """It, with the second command of the page run."""
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(example.parent)
        for kind, text in steps():
            if kind == "command" and " digits.db " in text:
                outcome = CliRunner().invoke(cli, shlex.split(text)[1:])
                assert outcome.exit_code == 0, (text, outcome.output, outcome.exception)
    with closing(connection.connect(example, read_only=True)) as opened:
        yield opened


@pytest.fixture(scope="module")
def run_id(db: dbapi.Connection) -> int:
    """The run of the page's second command; the documents' database had one before."""
    (found,) = db.execute(
        "select id from runs where kind = 'evaluate' order by id limit 1 offset 2"
    ).fetchone()
    return int(found)


def ask(db: dbapi.Connection, question: str, **values: Any) -> list[dict[str, Any]]:
    """The rows of a named question, asked with texts, as a shell does."""
    (file,) = (file for file in query_files() if file.name == f"{question}.sql")
    cursor = db.execute(file.read_text("utf-8"), {name: str(v) for name, v in values.items()})
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def test_everything_on_the_page_runs(db: dbapi.Connection) -> None:
    statements = [text for kind, text in steps() if kind == "sql"]
    assert len(statements) == 6
    for statement in statements:
        assert db.execute(statement).fetchall(), statement
    assert sum(kind == "command" for kind, _ in steps()) >= 6


def test_by_hand_gives_the_same_numbers(db: dbapi.Connection, run_id: int) -> None:
    """The statement of the page, for other k and weightings, too."""
    (by_hand,) = (text for kind, text in steps() if kind == "sql" and "knn_batch" in text)
    assert by_hand.count("run_id = 9") == 3
    assert by_hand.count("|| f.fold, 5,") == by_hand.count("'distance'") == 1
    for k in FEW_KS:
        for weighting in WEIGHTINGS:
            sql = by_hand.replace("run_id = 9", f"run_id = {run_id}")
            sql = sql.replace("|| f.fold, 5,", f"|| f.fold, {k},")
            sql = sql.replace("'distance'", f"'{weighting}'")
            stored = metrics_of(db, run_id, SPACE, k, weighting)
            assert db.execute(sql).fetchone() == (
                stored[None, "accuracy"],
                stored[None, "macro_f1"],
            )


@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_what_is_stored_is_what_vote_gives(
    db: dbapi.Connection, run_id: int, weighting: str
) -> None:
    for k in FEW_KS:
        voted = db.execute(
            "select n.item_id, own.value, vote(theirs.value, n.distance, :weighting),"
            " vote_share(theirs.value, n.distance, :weighting)"
            " from evaluation_neighbors(:run, :space) n"
            " join item_labels own on own.item_id = n.item_id and own.name = 'digit'"
            " join item_labels theirs on theirs.item_id = n.neighbor_id and theirs.name = 'digit'"
            " where n.rank <= :k group by n.item_id order by n.item_id",
            {"weighting": weighting, "run": run_id, "space": SPACE, "k": k},
        ).fetchall()
        stored = predictions_of(db, run_id, SPACE, k, weighting)
        assert [row[:3] for row in stored] == [row[:3] for row in voted]
        assert [row[3] for row in stored] == pytest.approx([row[3] for row in voted], rel=1e-12)


def test_numbers_are_what_vote_value_gives(db: dbapi.Connection) -> None:
    (run_id,) = db.execute(
        "select max(id) from runs where kind = 'evaluate'"
        " and json_extract(parameters_json, '$.target') = 'label:digit'"
    ).fetchone()
    for k in FEW_KS:
        for weighting in ("uniform", "distance"):
            voted = db.execute(
                "select n.item_id, vote_value(cast(theirs.value as real), n.distance, :weighting)"
                " from evaluation_neighbors(:run, :space) n join item_labels theirs"
                " on theirs.item_id = n.neighbor_id and theirs.name = 'digit'"
                " where n.rank <= :k group by n.item_id order by n.item_id",
                {"weighting": weighting, "run": run_id, "space": SPACE, "k": k},
            ).fetchall()
            stored = predictions_of(db, run_id, SPACE, k, weighting)
            assert [item for item, _, _, _ in stored] == [item for item, _ in voted]
            estimates = [value for _, value in voted]
            assert [row[2] for row in stored] == pytest.approx(estimates, rel=1e-12)


def test_the_table_of_an_evaluation(db: dbapi.Connection, run_id: int) -> None:
    rows = ask(db, "evaluation_table", evaluation=run_id)
    assert {(row["space"], row["k"], row["weighting"]) for row in rows} == {
        (SPACE, k, weighting) for k in KS for weighting in WEIGHTINGS
    }
    assert [row["accuracy"] for row in rows] == sorted(row["accuracy"] for row in rows)[::-1]
    for row in rows:
        stored = metrics_of(db, run_id, SPACE, row["k"], row["weighting"])
        for name in ("accuracy", "macro_f1", "top_5_accuracy", "retrieval_map"):
            assert row[name] == pytest.approx(stored[None, name], abs=6e-5)
        of_folds = [stored[fold, "accuracy"] for fold in range(5)]
        assert row["worst_fold"] == pytest.approx(min(filter(None, of_folds)), abs=6e-5)
        assert row["best_fold"] == pytest.approx(max(filter(None, of_folds)), abs=6e-5)
        assert row["mae"] is row["r2"] is row["spearman"] is None


def test_the_table_of_numbers(db: dbapi.Connection) -> None:
    (run_id,) = db.execute(
        "select max(id) from runs where json_extract(parameters_json, '$.target') = 'label:digit'"
    ).fetchone()
    rows = ask(db, "evaluation_table", evaluation=run_id)
    assert rows
    for row in rows:
        stored = metrics_of(db, run_id, SPACE, row["k"], row["weighting"])
        for name in ("mae", "r2", "spearman"):
            assert row[name] == pytest.approx(stored[None, name], abs=6e-5)
        assert row["worst_fold"] <= row["r2"] <= row["best_fold"]
        assert row["accuracy"] is None
    values = {"evaluation": run_id, "space": SPACE, "k": 10, "weighting": "uniform"}
    errors = ask(db, "largest_errors", **values)
    stored = predictions_of(db, run_id, SPACE, 10, "uniform")
    wanted = sorted(stored, key=lambda row: (-abs(row[2] - row[1]), row[0]))[:200]
    assert [row["item_id"] for row in errors] == [row[0] for row in wanted]
    assert errors[0]["error"] == pytest.approx(wanted[0][2] - wanted[0][1], abs=6e-5)


def test_confusion_and_classes(db: dbapi.Connection, run_id: int) -> None:
    values = {"evaluation": run_id, "space": SPACE, "k": 200, "weighting": "uniform"}
    stored = predictions_of(db, run_id, SPACE, 200, "uniform")
    cells = Counter((true, predicted) for _, true, predicted, _ in stored)
    of_label = Counter(true for _, true, _, _ in stored)
    rows = ask(db, "confusion_of_evaluation", **values)
    assert {(row["label"], row["predicted"]): row["items"] for row in rows} == {
        cell: n for cell, n in cells.items() if cell[0] != cell[1]
    }
    assert len(rows) > 10
    assert [row["items"] for row in rows] == sorted(row["items"] for row in rows)[::-1]
    for row in rows:
        assert row["share_of_label"] == round(row["items"] / of_label[row["label"]], 4)

    report = classification_report(
        [row[1] for row in stored], [row[2] for row in stored], output_dict=True
    )
    classes = ask(db, "evaluation_by_class", **values)
    assert sorted(row["label"] for row in classes) == [str(digit) for digit in range(10)]
    for row in classes:
        wanted = report[row["label"]]
        assert row["items"] == wanted["support"]
        for name, key in (("recall", "recall"), ("precision", "precision"), ("f1", "f1-score")):
            assert row[name] == pytest.approx(wanted[key], abs=6e-5)


def test_folds_one_by_one(db: dbapi.Connection, run_id: int) -> None:
    rows = ask(db, "evaluation_by_fold", evaluation=run_id, k=5, weighting="distance")
    stored = metrics_of(db, run_id, SPACE, 5, "distance")
    found = {(row["fold"], row["metric"]): row["value"] for row in rows}
    assert found == {key: value for key, value in stored.items() if key[0] is not None}
    sizes = {row["fold"]: row["items"] for row in rows}
    assert (
        sum(sizes.values())
        == db.execute("select count(*) from folds where run_id = ?", (run_id,)).fetchone()[0]
    )


def test_hardest_items_and_who_voted(db: dbapi.Connection, run_id: int) -> None:
    wrong, taken = Counter[int](), dict[int, Counter[str]]()
    for k in KS:
        for weighting in WEIGHTINGS:
            for item, true, predicted, _ in predictions_of(db, run_id, SPACE, k, weighting):
                if predicted != true:
                    wrong[item] += 1
                    taken.setdefault(item, Counter())[predicted] += 1
    rows = ask(db, "hardest_to_classify", evaluation=run_id)
    assert {row["item_id"]: row["wrong"] for row in rows} == {
        row["item_id"]: wrong[row["item_id"]] for row in rows
    }
    assert [row["wrong"] for row in rows] == sorted(wrong.values(), reverse=True)[: len(rows)]
    for row in rows:
        assert row["judged"] == len(KS) * len(WEIGHTINGS)
        assert taken[row["item_id"]][row["taken_for"]] == max(taken[row["item_id"]].values())
    # The labels that were flipped are among them.
    flipped = {
        item
        for (item,) in db.execute("select item_id from item_labels where value = 'flipped label'")
    }
    assert len(flipped & {row["item_id"] for row in rows[:40]}) >= 18

    item = rows[0]["item_id"]
    voters = ask(db, "voting_neighbours", evaluation=run_id, space=SPACE, item=item)
    assert [(row["neighbor_id"], row["distance"]) for row in voters] == stored_neighbors(
        db, run_id, SPACE
    )[item]
    labels = dict(db.execute("select item_id, value from item_labels where name = 'digit'"))
    assert [row["says"] for row in voters] == [labels[row["neighbor_id"]] for row in voters]
    (fold,) = db.execute(
        "select fold from folds where run_id = ? and item_id = ?", (run_id, item)
    ).fetchone()
    assert fold not in {row["fold"] for row in voters}


def test_losses_that_vote_are_those_of_neighbours(tmp_path: Path) -> None:
    """A loss that changes moves what its item's neighbours are told, and never what its item is told.

    A vote weighs 1 / (1 + loss). Item 12 has no loss, and no vote.
    """
    rng = np.random.default_rng(4)
    vectors = rng.normal(size=(80, 3)).astype(np.float32)
    labels: list[str | None] = [str(label) for label in rng.integers(0, 3, 80)]
    path = fill(tmp_path / "losses.db", {"s": (vectors, "l2")}, {"class": labels})
    losses = dict(enumerate(rng.uniform(0.1, 3, 80), start=1))
    del losses[12]
    write_losses(path, losses)
    words = ("s", "--label", "class", "-k", "1,4,9", "--weighting", "loss:box", "--folds", "4")
    before = evaluate(path, *words)
    write_losses(path, losses | {11: 50.0})
    after = evaluate(path, *words)
    moved = 0
    with closing(connection.connect(path, read_only=True)) as db:
        voters = stored_neighbors(db, before, "s")
        assert stored_neighbors(db, after, "s") == voters
        for k in (1, 4, 9):
            old = predictions_of(db, before, "s", k, "loss:box")
            new = predictions_of(db, after, "s", k, "loss:box")
            for one, other in zip(old, new, strict=True):
                own = voters[one[0]][:k]
                assert 11 in [voter for voter, _ in own] or one == other
                moved += one != other
                vote = Vote()
                for voter, distance in own:
                    if voter != 12:
                        vote.step(labels[voter - 1], distance, 1 / (1 + losses[voter]))
                assert one[2] == vote.final()
    assert moved > 5


def write_losses(path: Path, losses: dict[int, float]) -> None:
    """A detector's run with these losses of `box`, an item each."""
    with closing(connection.connect(path)) as db:
        with immediate(db):
            model = db.execute(
                "insert into models (name, family) values ('d', 'yolo') on conflict (name)"
                " do update set family = family returning id"
            ).fetchone()[0]
        with (
            run(db, "detect", parameters={"of": len(losses)}, model_id=model) as current,
            immediate(db),
        ):
            db.executemany(
                "insert into losses (run_id, item_id, component, value) values (?, ?, 'box', ?)",
                [(current.id, item, value) for item, value in losses.items()],
            )
