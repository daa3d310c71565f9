"""`--track` and `nearsql track`: what is told of a run, and that no tracker ever costs one."""

import re
import shlex
import sys
from collections.abc import Sequence
from contextlib import closing
from pathlib import Path
from types import SimpleNamespace

import click
import pytest
from click.testing import CliRunner, Result
from judged_images import add_detector, add_images, annotate, judge
from judged_runs import add_items
from replayed import loss_distances
from tracked import curves, record, two_colours

from nearsql.pipeline.cli import cli, main
from nearsql.pipeline.console import UserError
from nearsql.pipeline.plots import maps
from nearsql.pipeline.plots.look import Plot
from nearsql.pipeline.runs import run
from nearsql.pipeline.tracking import TRACKERS, Metric, RunReport, read_report, tracker
from nearsql.udfs import connection, dbapi

TOLD: list[tuple[RunReport, list[str]]] = []


class Listener:
    """A tracker that remembers what it was told."""

    def refuse_unready(self) -> None:
        return None

    def log(self, report: RunReport, figures: Sequence[Path]) -> str:
        assert all(path.read_bytes()[:8] == b"\x89PNG\r\n\x1a\n" for path in figures)
        TOLD.append((report, [path.stem for path in figures]))
        return f"number {len(TOLD)}"


class Unready(Listener):
    def refuse_unready(self) -> None:
        raise UserError("it is closed on Sundays")


class Broken(Listener):
    def log(self, report: RunReport, figures: Sequence[Path]) -> str:
        raise ConnectionError("the line\nis dead")


@pytest.fixture(autouse=True)
def trackers(monkeypatch: pytest.MonkeyPatch) -> None:
    """`mlflow` listens."""
    TOLD.clear()
    monkeypatch.setitem(TRACKERS, "mlflow", f"{__name__}:Listener")
    monkeypatch.setitem(sys.modules, __name__, sys.modules[Listener.__module__])


def use(monkeypatch: pytest.MonkeyPatch, kind: type[Listener]) -> None:
    monkeypatch.setitem(TRACKERS, "mlflow", f"{__name__}:{kind.__name__}")


def nearsql(*words: object) -> Result:
    return CliRunner().invoke(cli, [str(word) for word in words])


def done(*words: object) -> str:
    result = nearsql(*words)
    assert result.exit_code == 0, (words, result.output, result.exception)
    return result.output


def finished(path: Path) -> list[tuple[int, str]]:
    with closing(connection.connect(path)) as db:
        return db.execute("select id, kind from runs where status = 'finished'").fetchall()


def evaluation(path: Path) -> list[object]:
    return [
        "evaluate",
        path,
        "a space/with (words)",
        "--label",
        "colour",
        "-k",
        "1,3",
        "--folds",
        "3",
    ]


def test_every_run_is_told_with_its_metrics_and_plots(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_colours(tmp_path / "colours.db")
    space = "a space/with (words)"
    drawn_with: list[int | None] = []

    def map_plot(db: dbapi.Connection, run_id: int, clustering: int | None = None) -> Plot:
        """Without the names of clusters, whose library takes long to load."""
        drawn_with.append(clustering)
        return by_label(db, run_id, label="colour")

    by_label = maps.map_plot
    monkeypatch.setattr(maps, "map_plot", map_plot)
    said = done(*evaluation(path), "--track", "mlflow")
    assert "run 1 in mlflow: number 1" in said
    done("project", path, space, "--method", "pca", "--track", "mlflow")
    done("cluster", path, "--track", "mlflow")
    assert [(r.title, figures) for r, figures in TOLD] == [
        ("colours.db evaluate 1", ["evaluation", "confusion"]),
        ("colours.db project 2", ["map"]),
        ("colours.db cluster 3", ["map"]),
    ]
    assert drawn_with == [None, 3]  # the map that was there, with these clusters
    with closing(connection.connect(path)) as db:
        for report, _ in TOLD:
            own = record(db, report.run_id)
            assert dict(report.parameters).items() >= own["parameters"].items()
            told = {m.name: m.value for m in report.metrics if m.step is None}
            for group in ("counts", "timings"):
                assert {n: told.get(f"{group}/{n}") for n in own[group]} == own[group]
            assert told["duration_ms"] > 0
            assert report.tags["nearsql.file"] == "colours.db"
            assert str(tmp_path) not in str(report.record) + str(report.tags)
    judged = TOLD[0][0]
    assert {(m.name, m.step): m.value for m in judged.metrics if m.step} == curves(path, 1)
    best = max(v for (name, _), v in curves(path, 1).items() if name.startswith("accuracy/"))
    assert Metric(f"best_accuracy/{space}", best) in judged.metrics
    # What is there can be told again.
    done("track", path, 2, 2, "--with", "mlflow")
    assert drawn_with[2:] == [None]
    assert [report.run_id for report, _ in TOLD[3:]] == [2]


def test_a_command_that_made_no_run_tells_of_none(tmp_path: Path) -> None:
    path = two_colours(tmp_path / "colours.db")
    words = ("embed", path, "--model", "tfidf", "--track", "mlflow")
    assert "run 1 in mlflow" in done(*words)
    assert "no run was made, and mlflow was told of none" in done(*words)
    assert [report.kind for report, _ in TOLD] == ["embed"]
    refused = nearsql("cluster", path, "tfidf", "--sweep", "--track", "mlflow").exception
    assert str(refused) == "--track is of runs, and --sweep makes none"


def test_every_run_of_a_command_is_told(tmp_path: Path) -> None:
    path = two_colours(tmp_path / "colours.db")
    done("embed", path, "--model", "tfidf", "--dimensions", "4")
    done("cluster", path, "--track", "mlflow")
    assert [(report.run_id, report.kind) for report, _ in TOLD] == [(2, "cluster"), (3, "cluster")]


def test_one_that_is_not_ready_stops_the_command_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_colours(tmp_path / "colours.db")
    use(monkeypatch, Unready)
    refused = nearsql(*evaluation(path), "--track", "mlflow").exception
    assert isinstance(refused, UserError)
    assert str(refused) == "it is closed on Sundays"
    assert finished(path) == []
    # Also where there is no file, in the words of the command itself.
    missing = nearsql(*evaluation(tmp_path / "none.db"), "--track", "mlflow").exception
    assert isinstance(missing, dbapi.OperationalError)
    assert "there is no file" in str(missing)


@pytest.mark.parametrize(("name", "package"), [("mlflow", "mlflow"), ("wandb", "wandb")])
def test_a_package_that_is_missing_is_named_before_the_work(
    name: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_colours(tmp_path / "colours.db")
    monkeypatch.undo()  # the real ones
    monkeypatch.setitem(sys.modules, package, None)
    refused = nearsql(*evaluation(path), "--track", name).exception
    assert isinstance(refused, UserError)
    assert f"pip install {package}" in str(refused)
    assert finished(path) == []


def test_a_tracker_that_is_switched_off_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    wandb = SimpleNamespace(
        setup=lambda: SimpleNamespace(settings=SimpleNamespace(mode="disabled"))
    )
    monkeypatch.setitem(sys.modules, "wandb", wandb)
    with pytest.raises(UserError, match="wandb is switched off"):
        tracker("wandb").refuse_unready()


def test_a_tracker_that_fails_takes_nothing_from_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    path = two_colours(tmp_path / "colours.db")
    use(monkeypatch, Broken)
    with pytest.raises(SystemExit) as ended:
        main([str(word) for word in (*evaluation(path), "--track", "mlflow")])
    assert ended.value.code == 3
    assert finished(path) == [(1, "evaluate")]
    said = capfd.readouterr().err.splitlines()
    assert said[-2:] == [
        "nearsql: run 1 is stored, but mlflow failed: the line is dead",
        f"  next: nearsql track {path} 1 --with mlflow",
    ]
    monkeypatch.setitem(TRACKERS, "mlflow", f"{__name__}:Listener")
    done("track", path, 1, "--with", "mlflow")
    assert [report.run_id for report, _ in TOLD] == [1]


def test_only_a_finished_run_is_told(tmp_path: Path) -> None:
    path = two_colours(tmp_path / "colours.db")
    with closing(connection.connect(path)) as db:
        with pytest.raises(KeyError), run(db, "find", parameters={}):
            raise KeyError("x")
        with run(db, "find", parameters={"deep": [1]}, seed=3):
            pass
    for words, sentence in (
        ([1], "run 1 is failed: only a finished run can be tracked"),
        ([2, 9], "there is no run 9 in this database: see `nearsql runs`"),
    ):
        refused = nearsql("track", path, *words, "--with", "mlflow").exception
        assert str(refused) == sentence
    assert TOLD == []
    done("track", path, 2, "--with", "mlflow")
    assert TOLD[0][0].parameters == {"deep": [1], "seed": 3}


def test_what_a_detector_comes_to(tmp_path: Path) -> None:
    path = tmp_path / "street.db"
    box = (10.0, 10.0, 50.0, 50.0)
    with closing(connection.create(path)) as db:
        add_images(db, 4)
        for item in (1, 2, 3):
            annotate(db, item, (item, "cat", box), (10 + item, "dog", box))
        found = judge(
            db,
            add_detector(db),
            {
                1: [("cat", box, 0.9, 1), ("dog", box, 0.8, 11)],
                2: [("cat", box, 0.9, 2), ("dog", box, 0.8, None), ("dog", box, 0.7, None)],
                3: [],
                4: [("cat", box, 0.9, None)],
            },
            losses={1: (1.0, None), 2: (2.0, 4.0), 3: (6.0, 8.0), 4: (3.0, 12.0)},
        )
        told = {m.name: m.value for m in read_report(db, "street.db", found).metrics}
        assert told["detections/objects"] == 6
        assert told["detections/predictions"] == 6
        assert (told["detections/tp"], told["detections/fp"], told["detections/fn"]) == (3, 2, 3)
        assert told["detections/precision"] == 3 / 5
        assert told["detections/recall"] == 3 / 6
        assert told["images/mean_iou"] == pytest.approx(0.8)
        assert told["loss/box"] == 3.0
        assert told["loss/cls"] == 8.0
        assert "images/dice_score" not in told  # nobody measured it
    done("track", path, found, "--with", "mlflow")
    assert TOLD[0][1] == ["losses"]
    assert TOLD[0][0].tags["nearsql.model"] == "made-up"


def test_what_loss_distances_come_to(tmp_path: Path) -> None:
    with closing(connection.create(tmp_path / "street.db")) as db:
        add_items(db, range(1000, 1040))
        found = loss_distances(db)
        db.execute(
            "update loss_distances set distance = null, reason = 'nothing seen'"
            " where target_item_id = 1003 and component = 'box'"
        )
        db.commit()
        told = {m.name: m.value for m in read_report(db, "street.db", found).metrics}
        values = [
            row[0]
            for row in db.execute("select distance from loss_distances where component = 'box'")
        ]
        defined = [value for value in values if value is not None]
        assert told["distance_min/box"] == min(defined)
        assert told["distance_max/box"] == max(defined)
        assert told["distance_mean/box"] == pytest.approx(sum(defined) / len(defined))
        assert told["undefined/box"] == len(values) - len(defined) == 40
        assert told["undefined/cls"] == 0


def test_a_damaged_record_is_a_sentence(tmp_path: Path) -> None:
    path = two_colours(tmp_path / "colours.db")
    with closing(connection.connect(path)) as db:
        with run(db, "find", parameters={}):
            pass
        db.execute("drop trigger runs_finished_never_change")
        db.execute("update runs set parameters_json = '[1]'")
        db.commit()
    refused = nearsql("track", path, 1, "--with", "mlflow").exception
    assert str(refused) == "the record of run 1 cannot be read: it is damaged"


def test_every_command_on_the_page_is_one() -> None:
    page = (Path(__file__).parents[2] / "docs/trackers.md").read_text("utf-8")
    lines = re.findall(
        r"^ {0,4}(?:  next: )?nearsql ((?:evaluate|detect|track) .*)$", page, re.MULTILINE
    )
    assert len(lines) == 6
    for line in lines:
        name, *words = shlex.split(line)
        command = cli.get_command(click.Context(cli), name)
        assert command is not None
        given = command.make_context(name, words).params
        assert given.get("track") or given.get("with_"), line
