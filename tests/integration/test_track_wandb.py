"""`--track wandb` in its offline mode: what is in its folder afterwards is what is in the file."""

import socket
from contextlib import closing
from pathlib import Path

import pytest
from tracked import curves, in_a_process, is_png, read_offline, record, two_colours

from nearsql.udfs import connection

SPACE = "a space/with (words)"


@pytest.fixture(scope="module")
def played(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, list[tuple]]:
    """A folder with colours.db and wandb's folder, and what the commands said."""
    folder = tmp_path_factory.mktemp("wandb")
    path = two_colours(folder / "colours.db")
    judge = ["evaluate", path, SPACE, "--label", "colour", "-k", "1,3", "--folds", "3"]
    said = in_a_process(
        folder,
        [[*judge, "--track", "wandb"]],
        WANDB_MODE="offline",
        WANDB_DIR=str(folder),
        WANDB_PROJECT="",
    )
    return folder, said


def test_parameters_metrics_and_plots_come_back(played: tuple[Path, list[tuple]]) -> None:
    folder, said = played
    ((code, what),) = said
    assert code == 0, what
    (first,) = (folder / "wandb").glob("offline-run-*")
    assert f"run 1 in wandb: {first}; `wandb sync {first}` sends it" in what
    found = read_offline(first)
    assert (found.title, found.project, found.job_type) == (
        "colours.db evaluate 1",
        "colours",
        "evaluate",
    )
    assert found.exit_code == 0
    with closing(connection.connect(folder / "colours.db")) as db:
        own = record(db, 1)
        (hash_,) = db.execute("select result_sha256 from runs").fetchone()
    assert found.config.items() >= own["parameters"].items()
    assert found.config["nearsql"]["versions"] == own["versions"]
    assert found.config["nearsql"]["tags"]["nearsql.result_sha256"] == hash_
    for name, value in own["counts"].items():
        assert found.summary[f"counts/{name}"] == value
    told = {
        (name, int(row["k"])): value
        for row in found.history
        if "k" in row
        for name, value in row.items()
        if name.count("/") > 1
    }
    assert told == curves(folder / "colours.db", 1)
    assert found.steps["accuracy/*"] == "k"
    pictures = [row for row in found.history if "figures/evaluation" in row]
    assert len(pictures) == 1
    for name in ("evaluation", "confusion"):
        shown = pictures[0][f"figures/{name}"]
        assert is_png((first / "files" / shown["path"]).read_bytes())


def test_no_more_than_that_is_kept(played: tuple[Path, list[tuple]]) -> None:
    folder, _ = played
    for run in (folder / "wandb").glob("offline-run-*"):
        files = {path.name for path in (run / "files").rglob("*") if path.is_file()}
        assert all(name.startswith(("evaluation_", "confusion_")) for name in files), files
        found = read_offline(run)
        # Neither where the file lies, nor the machine, nor its load, nor what was printed.
        assert not {"stats", "output", "output_raw", "environment"} & found.kinds
        (log,) = run.glob("run-*.wandb")
        assert str(folder).encode() not in log.read_bytes()
        assert "process" not in found.config["nearsql"]
        assert socket.gethostname() not in str(found.config)


def test_what_keeps_wandb_from_working_is_said_before_the_work(tmp_path: Path) -> None:
    path = two_colours(tmp_path / "colours.db")
    judge = ["evaluate", path, SPACE, "--label", "colour", "-k", "1", "--track", "wandb"]
    # Nobody is logged in where there is neither key nor terminal.
    ((code, said),) = in_a_process(
        tmp_path, [judge], WANDB_MODE="online", HOME=str(tmp_path), WANDB_API_KEY="", NETRC="none"
    )
    assert code == 1
    assert "UserError: wandb cannot be used, so nothing was begun: " in said
    with closing(connection.connect(path)) as db:
        assert db.execute("select count(*) from runs").fetchone() == (0,)
