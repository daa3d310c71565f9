"""The workers of a Ray cluster: results in order and the same rows as without, whoever dies on the way."""

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image
from ray_tasks import Squares, contents

from nearsql.pipeline import embed as embed_module
from nearsql.pipeline.console import UserError
from nearsql.pipeline.embed import embed
from nearsql.pipeline.engines import Facts, ray_cluster, ray_engine, ray_worker
from nearsql.pipeline.engines.local import LocalEngine
from nearsql.pipeline.engines.options import chosen_engine
from nearsql.pipeline.engines.ray_cluster import connected
from nearsql.pipeline.engines.ray_engine import RayEngine, RayWorkers
from nearsql.pipeline.engines.ray_worker import Worker
from nearsql.pipeline.ingest import ingest_images, ingest_texts
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.replay import replay
from nearsql.udfs import connection, dbapi

NUMBERS = range(50)
SQUARES = [n * n for n in NUMBERS]
IMAGES = 40
POINTS = 1300  # three blocks of queries
BY_ONE = RayEngine(workers=1)


def of_ray(folder: str) -> list[str]:
    """The command lines of the processes that work in a folder."""
    found = []
    for process in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            line = process.read_bytes().replace(b"\0", b" ").decode(errors="replace")
        except OSError:
            continue  # it has ended
        if folder in line:
            found.append(line)
    return found


@pytest.fixture(scope="module", autouse=True)
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A cluster of our own, for all tests here: its address. Nothing is left of it."""
    home = tmp_path_factory.mktemp("home")
    mark = f"nearsql-ray-{os.getpid()}-"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOME", str(home))
        patched.delenv("RAY_ADDRESS", raising=False)
        with connected(None, 2):
            assert of_ray(mark) or sys.platform != "linux"
            yield ray.get_runtime_context().gcs_address
    assert not (home / ".ray").exists()
    assert not list(Path(tempfile.gettempdir()).glob(f"{mark}*"))
    assert not of_ray(mark)
    assert "RAY_AUTH_TOKEN" not in os.environ


def squares(workers: Any) -> list[int]:
    return [square for batch in workers.map(NUMBERS, 3) for square, _ in batch]


def squares_by(engine: RayEngine, task: Squares) -> list[int]:
    with engine.workers(task) as workers:
        return squares(workers)


def test_results_come_in_order_and_no_more_is_read_than_there_is_room_for() -> None:
    read: list[int] = []

    def reading() -> Iterator[int]:
        for number in NUMBERS:
            read.append(number)
            yield number

    there = []
    with RayEngine(workers=2).workers(Squares()) as workers:
        assert workers.facts.computation == {"threads": 1}
        for done, batch in enumerate(workers.map(reading(), 3, besides=sum), 1):
            assert len(read) <= 3 * (done + 2 * ray_engine._WINDOW)
            there.append(batch)
    with LocalEngine().workers(Squares()) as local:
        assert there == list(local.map(NUMBERS, 3, besides=sum))
    assert [square for batch in there for square, _ in batch] == SQUARES
    assert there[1] == [(9, 12), (16, 12), (25, 12)]


def test_who_dies_is_replaced_and_nothing_is_lost_or_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = RayEngine(workers=2)
    engine._quiet = False
    with engine.workers(Squares(seconds=0.02, log=str(tmp_path))) as workers:
        found = []
        for number, batch in enumerate(workers.map(NUMBERS, 2)):
            found += [square for square, _ in batch]
            if number == 2:
                os.kill(workers.processes[0], signal.SIGKILL)
        assert workers.n_lost == 1
    assert found == SQUARES
    assert len(list(tmp_path.iterdir())) >= 2
    printed, said = capsys.readouterr()
    # Before it, on a busy machine: that none is ready yet.
    assert "2 workers of Ray, each with 1 CPU" in said.splitlines()
    assert said.count("died, and another does its") == 1
    assert printed == ""


def test_what_kills_each_worker_is_told() -> None:
    message = r"3 workers have died of the same 3 items, the first of which is 18: "
    with pytest.raises(UserError, match=message):
        squares_by(RayEngine(workers=1), Squares(fatal=20))


def test_an_error_arrives_as_it_was_raised_and_who_computes_otherwise_is_refused() -> None:
    with RayEngine(workers=1).workers(Squares(bad=7)) as workers:
        with pytest.raises(UserError, match=r"^7 is no number$"):
            squares(workers)
        # As if the first had been another machine, and is replaced by this one.
        workers._facts = Facts("cpu: elsewhere", {"threads": 8})
        workers._lose(workers._hands[0], RuntimeError("gone"))
        with pytest.raises(UserError, match=r"with threads 1, and others .* with threads 8"):
            squares(workers)


def test_an_error_of_loading_arrives_with_the_place_where_it_was_raised() -> None:
    with pytest.raises(ZeroDivisionError, match="by zero") as raised:
        squares_by(RayEngine(workers=1), Squares(wrong=ZeroDivisionError("by zero")))
    assert "in load" in raised.value.__notes__[0]


def test_what_a_worker_says_of_its_own_accord() -> None:
    missing = UserError("small.pt: there is no such file; weights must be a local .pt file")
    answer = Worker(1).load(Squares(wrong=missing), ray_worker.__version__)
    assert (answer.error, answer.value) == (missing, None)
    answer = Worker(1).load(Squares(), "0.0.1")
    assert str(answer.error).startswith(f"the workers have nearsql {ray_worker.__version__}, and")
    hand = ray_engine._Hand(None, None, "the worker of process 7 on far")
    team = ray_engine.RayWorkers(ray, Squares(), 1, {"CPU": 1.0, "GPU": 0.0}, True)
    said = team._said_by(hand, missing)
    assert str(said) == f"{missing} (says the worker of process 7 on far)"


def test_what_no_machine_has_is_refused() -> None:
    message = r"no machine .* the 64 CPUs and 0 GPUs of a worker: .* 2 CPUs"
    with pytest.raises(UserError, match=message):
        squares_by(RayEngine(workers=1, cpus=64), Squares())
    with pytest.raises(UserError, match="--device cuda, not cuda:1"):
        squares_by(RayEngine(), Squares(device="cuda:1"))


def test_options_that_make_no_sense() -> None:
    with pytest.raises(UserError, match=r"^--workers is for --engine ray$"):
        chosen_engine("local", workers=2)
    with pytest.raises(UserError, match=r"^--ray-address is for --engine ray$"):
        chosen_engine("local", ray_address="auto")
    with pytest.raises(UserError, match=r"a share of one GPU or a whole number, not 1\.5"):
        chosen_engine("ray", worker_gpus=1.5)


@pytest.mark.parametrize(
    ("address", "message"),
    [
        ("127.0.0.1:1", "there is no Ray cluster at 127.0.0.1:1: "),
        ("ray://there:10001", "auto or HOST:PORT, not 'ray://there:10001'"),
        ("there", "auto or HOST:PORT, not 'there'"),
    ],
)
def test_addresses_where_nothing_is(address: str, message: str) -> None:
    with pytest.raises(UserError, match=message):
        ray_cluster._refuse_unreachable(address)


def test_without_ray_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UserError, match=r"pip install 'nearsql\[ray\]'"):
        squares_by(RayEngine(), Squares())


@pytest.fixture(scope="module")
def pictures(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A database of images in a folder, of which one is gone by now and one cannot be decoded to its end,
    of texts, and with a space of points. Nobody writes to it."""
    folder = tmp_path_factory.mktemp("pictures")
    rng = np.random.default_rng(0)
    (folder / "images").mkdir()
    for number in range(IMAGES):
        pixels = rng.integers(0, 256, (12 + number % 5, 16, 3), np.uint8)
        Image.fromarray(pixels).save(folder / "images" / f"{number:02}.png")
    (folder / "texts.csv").write_text(
        "text\n"
        + "\n".join(f"{word} and {word} again" for word in ["red", "green", "blue", "grey"])
    )
    path = folder / "pictures.db"
    connection.create(path).close()
    with closing(connection.connect(path)) as db:
        ingest_images(db, folder / "images", collection="pictures")
        ingest_texts(db, folder / "texts.csv", text="text", collection="texts")
        add_points(db)
    (folder / "images" / "03.png").unlink()
    (folder / "images" / "07.png").write_bytes(b"something else")
    return path


def add_points(db: dbapi.Connection) -> None:
    points = np.random.default_rng(1).standard_normal((POINTS, 4)).astype("<f4")
    db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('p', 'metric', 4, 'l2')"
    )
    for number, vector in enumerate(points):
        db.execute(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'points', ?, ?, ?)",
            (1000 + number, f"{number:064x}", f"point {number}", number),
        )
        db.execute(
            "insert into vectors (space_id, item_id, vector) values (1, ?, ?)",
            (1000 + number, vector.tobytes()),
        )
    db.commit()


@pytest.fixture
def copies(pictures: Path, tmp_path: Path) -> tuple[Path, Path]:
    """Two copies of it: one for each engine."""
    return Path(shutil.copy(pictures, tmp_path / "a.db")), Path(
        shutil.copy(pictures, tmp_path / "b.db")
    )


def test_the_same_rows_and_errors_though_a_worker_is_killed(
    copies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    write, start = embed_module._write, RayWorkers.start
    teams: list[RayWorkers] = []

    def started(team: RayWorkers) -> None:
        start(team)
        teams.append(team)

    def killing(*args: Any) -> None:
        write(*args)
        if teams and not teams[0].n_lost:
            for process in teams[0].processes[:1]:
                with suppress(ProcessLookupError):  # dead already, and not missed yet
                    os.kill(process, signal.SIGKILL)

    monkeypatch.setattr(RayWorkers, "start", started)
    monkeypatch.setattr(embed_module, "_write", killing)
    some = "select id from items where id between 1000 and 1009"
    for path, by in zip(copies, ((None, None), (RayEngine(workers=2), BY_ONE)), strict=True):
        with closing(connection.connect(path)) as db:
            found = embed(db, "pixels", collection="pictures", batch_size=1, engine=by[0])
            assert (found.counts["vectors"], found.counts["errors"]) == (IMAGES - 2, 2)
            monkeypatch.setattr(embed_module, "_write", write)
            embed(db, "tfidf", collection="texts", batch_size=3, engine=by[1])
            again = embed(db, "tfidf", collection="texts", engine=by[1])
            assert again.run_id is None
            neighbors(db, ["p"], k=5, within=some, engine=by[1])
        monkeypatch.setattr(embed_module, "_write", killing)
    here, there = map(contents, copies)
    assert here == there
    with closing(connection.connect(copies[1])) as db:
        by_ray = db.execute(
            "select counts_json ->> 'workers', counts_json ->> 'workers_lost', versions_json ->> 'ray'"
            " from runs where kind in ('embed', 'neighbors') order by id"
        ).fetchall()
        version = ray.__version__
        assert by_ray == [(2, teams[0].n_lost, version), (1, None, version), (1, None, version)]
        assert teams[0].n_lost >= 1
        for run_id in (4, 5):  # the first run's images are no more
            assert replay(db, run_id).is_same
        messages = db.execute("select message from item_errors order by item_id").fetchall()
    assert "No such file" in messages[0][0]
    assert "changed on disk" in messages[1][0]


SLOWLY = """
import sys, time
from nearsql.pipeline import cli, neighbor_rows, neighbors as module
neighbor_rows._ROWS_A_WRITE = 1
write = module.write_block
def slowly(*args):
    write(*args)
    time.sleep(600)
module.write_block = slowly
cli.main(sys.argv[1:])
"""


def test_the_command_is_killed_and_another_engine_goes_on(
    copies: tuple[Path, Path], cluster: str
) -> None:
    here, there = copies
    words = [
        "neighbors",
        str(there),
        "p",
        "-k",
        "5",
        "--engine",
        "ray",
        "--ray-address",
        cluster,
        "--workers",
        "1",
    ]
    killed = subprocess.Popen([sys.executable, "-c", SLOWLY, *words], stderr=subprocess.PIPE)
    try:
        with closing(connection.connect(there)) as db:
            count = "select count(*) from neighbors"
            deadline = time.monotonic() + 120
            while db.execute(count).fetchone() == (0,) and time.monotonic() < deadline:
                assert killed.poll() is None, killed.communicate()[1].decode()
                time.sleep(0.1)
    finally:
        killed.kill()
        killed.wait()
    for path in copies:
        with closing(connection.connect(path)) as db:
            (result,) = neighbors(db, ["p"], k=5)
    assert 0 < result.counts.pop("already") < POINTS
    with closing(connection.connect(there)) as db:
        db.execute("drop trigger runs_finished_never_change")
        db.execute("update runs set counts_json = json_remove(counts_json, '$.already')")
        db.commit()
    assert contents(here) == contents(there)


def test_a_command_by_a_cluster_that_is_there(copies: tuple[Path, Path], cluster: str) -> None:
    words = ["embed", str(copies[0]), "--model", "pixels", "--engine", "ray", "--workers", "1"]
    asked = [sys.executable, "-c", "from nearsql.pipeline.cli import main; main()", *words]
    found = subprocess.run(
        asked, env={**os.environ, "RAY_ADDRESS": cluster}, capture_output=True, text=True
    )
    assert found.returncode == 0, found.stderr
    assert found.stdout == ""
    assert "1 worker of Ray, with 1 CPU\n" in found.stderr
    assert ray.is_initialized()
    assert ray.cluster_resources()["CPU"] == 2


def test_a_provider_has_no_work_to_share_out(db: dbapi.Connection) -> None:
    with pytest.raises(UserError, match="llm: leaves the work to a provider"):
        embed(db, "llm:any", engine=BY_ONE)
