"""`--track mlflow` into a store of files: what its client reads back is what is in the file."""

import json
import threading
from collections.abc import Iterator
from contextlib import closing, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from tracked import curves, in_a_process, is_png, record, two_colours

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.udfs import connection

pytestmark = pytest.mark.mlflow
SPACE = "a space/with (words)"
TOLD_SPACE = "a space/with _words_"  # in letters that MLflow takes


def store(folder: Path) -> dict[str, str]:
    """The environment in which MLflow keeps its runs in files below the folder."""
    return {"MLFLOW_ALLOW_FILE_STORE": "true", "MLFLOW_TRACKING_URI": (folder / "ml").as_uri()}


def judge(path: Path) -> list[object]:
    words = ["--label", "colour", "-k", "1,3", "--folds", "3", "--track", "mlflow"]
    return ["evaluate", path, SPACE, *words]


def here(words: list[object], monkeypatch: pytest.MonkeyPatch, environ: dict[str, str]) -> Result:
    """Runs a command in this process, which has MLflow already: importing it takes seconds."""
    # Else the command would set them for all tests that follow.
    own = {"MLFLOW_DISABLE_TELEMETRY": "true", "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "2"}
    for name, value in (own | environ).items():
        monkeypatch.setenv(name, value)
    return CliRunner().invoke(cli, [str(word) for word in words])


def test_parameters_metrics_and_plots_come_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_colours(tmp_path / "colours.db")
    long = json.dumps(list(range(1, 31)) * 9)
    commands = [judge(path), ["project", path, SPACE, "--method", "pca", "--within", long]]
    commands[1] += ["--track", "mlflow"]
    environ = store(tmp_path)
    said = in_a_process(tmp_path, commands, **environ)
    assert [code for code, _ in said] == [0, 0], said
    for name, value in environ.items():
        monkeypatch.setenv(name, value)
    from mlflow import MlflowClient

    client = MlflowClient()
    experiment = client.get_experiment_by_name("colours")
    runs = {run.info.run_name: run for run in client.search_runs([experiment.experiment_id])}
    assert set(runs) == {"colours.db evaluate 1", "colours.db project 2"}
    found = runs["colours.db evaluate 1"]
    assert found.info.status == "FINISHED"
    assert f"run 1 in mlflow: run {found.info.run_id} of experiment 'colours' in" in said[0][1]
    with closing(connection.connect(path)) as db:
        own = record(db, 1)
        (hash_,) = db.execute("select result_sha256 from runs where id = 1").fetchone()
    told = {name: text for name, text in found.data.params.items() if name != "seed"}
    assert told == {
        name: value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
        for name, value in own["parameters"].items()
        if name != "seed"
    }
    assert found.data.tags["nearsql.result_sha256"] == hash_
    assert found.data.tags["version.numpy"] == own["versions"]["numpy"]
    for name, value in own["counts"].items():
        assert found.data.metrics[f"counts/{name}"] == value
    told_curves = {
        (name.replace(TOLD_SPACE, SPACE), point.step): point.value
        for name in found.data.metrics
        if name.count("/") > 2 and not name.startswith("best_")
        for point in client.get_metric_history(found.info.run_id, name)
    }
    assert told_curves == curves(path, 1)
    kept = tmp_path / "ml" / experiment.experiment_id / found.info.run_id / "artifacts"
    for name in ("evaluation", "confusion"):
        assert is_png((kept / "figures" / f"{name}.png").read_bytes())
    whole = json.loads((kept / "run.json").read_text("utf-8"))
    assert whole["parameters"] == own["parameters"]
    assert str(tmp_path) not in json.dumps(whole)
    # What is too long for the table is cut, and says so; the record has all of it.
    cut = runs["colours.db project 2"].data.params["within"]
    assert cut.endswith(f"… ({len(long):,} letters: see run.json)")
    assert len(cut) < 500
    kept = kept.parents[1] / runs["colours.db project 2"].info.run_id / "artifacts/run.json"
    assert json.loads(kept.read_text("utf-8"))["parameters"]["within"] == long


class _Dying(BaseHTTPRequestHandler):
    """A server that answers questions, and can write nothing."""

    def do_GET(self) -> None:
        self._answer(200, {"experiment": {"experiment_id": "7", "name": "colours"}})

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        if self.path.endswith("/search"):
            self._answer(200, {"experiments": []})
        else:
            self._answer(400, {"error_code": "INTERNAL_ERROR", "message": "no space left"})

    def log_message(self, *_: object) -> None:
        return None

    def _answer(self, code: int, what: object) -> None:
        data = json.dumps(what).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)


@contextmanager
def dying_server() -> Iterator[str]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Dying)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield f"127.0.0.1:{server.server_address[1]}"
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def test_a_server_that_fails_afterwards_takes_nothing_from_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_colours(tmp_path / "colours.db")
    with dying_server() as address:
        uri = f"http://{address}"
        ((code, said),) = in_a_process(tmp_path, [judge(path)], MLFLOW_TRACKING_URI=uri)
    assert code == 3, said
    assert "nearsql: run 1 is stored, but mlflow failed: " in said
    assert "no space left" in said
    assert f"  next: nearsql track {path} 1 --with mlflow" in said
    with closing(connection.connect(path)) as db:
        assert db.execute("select id, status from runs").fetchall() == [(1, "finished")]
    # It can be told of it later.
    done = here(["track", path, 1, "--with", "mlflow"], monkeypatch, store(tmp_path))
    assert done.exit_code == 0, done.output


def test_a_store_that_is_not_there_stops_the_command_before_it_begins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = two_colours(tmp_path / "colours.db")
    nowhere = {
        "MLFLOW_TRACKING_URI": "http://127.0.0.1:1",
        "MLFLOW_HTTP_REQUEST_MAX_RETRIES": "0",
    }
    done = here(judge(path), monkeypatch, nowhere)
    assert isinstance(done.exception, UserError)
    assert str(done.exception).startswith("mlflow cannot be used, so nothing was begun ")
    with closing(connection.connect(path)) as db:
        assert db.execute("select count(*) from runs").fetchone() == (0,)
