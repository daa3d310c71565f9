"""Workers of a Ray cluster: results in order, whatever dies, with a bound on what is on its way."""

import os
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from ray_tasks import Squares

from nearsql.pipeline.console import UserError
from nearsql.pipeline.engines import Facts, ray_cluster, ray_engine
from nearsql.pipeline.engines.local import LocalEngine
from nearsql.pipeline.engines.options import chosen_engine
from nearsql.pipeline.engines.ray_cluster import connected
from nearsql.pipeline.engines.ray_engine import RayEngine

NUMBERS = range(50)
SQUARES = [n * n for n in NUMBERS]


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
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A cluster of our own, for all tests here; nothing is left of it."""
    home = tmp_path_factory.mktemp("home")
    mark = f"nearsql-ray-{os.getpid()}-"
    with pytest.MonkeyPatch.context() as patched:
        patched.setenv("HOME", str(home))
        patched.delenv("RAY_ADDRESS", raising=False)
        with connected(None, 2):
            assert of_ray(mark) or sys.platform != "linux"
            yield
    assert not list(home.iterdir())
    assert not list(Path(tempfile.gettempdir()).glob(f"{mark}*"))
    assert not of_ray(mark)
    assert "RAY_AUTH_TOKEN" not in os.environ


def squares(workers: Any) -> list[int]:
    return [square for batch in workers.map(NUMBERS, 3) for square, _ in batch]


def squares_by(engine: RayEngine, task: Squares) -> list[int]:
    with engine.workers(task) as workers:
        return squares(workers)


def test_results_come_in_order_with_what_was_read_besides() -> None:
    with RayEngine(workers=2).workers(Squares()) as workers:
        assert workers.facts.computation == {"threads": 1}
        there = list(workers.map(NUMBERS, 3, besides=sum))
    with LocalEngine().workers(Squares()) as local:
        assert there == list(local.map(NUMBERS, 3, besides=sum))
    assert [square for batch in there for square, _ in batch] == SQUARES
    assert there[1] == [(9, 12), (16, 12), (25, 12)]


def test_no_more_is_read_than_there_is_room_for() -> None:
    read: list[int] = []

    def reading() -> Iterator[int]:
        for number in NUMBERS:
            read.append(number)
            yield number

    with RayEngine(workers=2).workers(Squares()) as workers:
        for done, _ in enumerate(workers.map(reading(), 2), 1):
            assert len(read) <= 2 * (done + 2 * ray_engine._WINDOW)


def test_who_dies_is_replaced_and_nothing_is_lost_or_done_twice(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    engine = RayEngine(workers=2)
    engine._quiet = False
    with engine.workers(Squares(seconds=0.02, log=str(tmp_path))) as workers:
        found = []
        for number, batch in enumerate(workers.map(NUMBERS, 2)):
            found += [square for square, _ in batch]
            if number in (2, 9):
                os.kill(workers.processes[0], signal.SIGKILL)
        assert workers.n_lost == 2
    assert found == SQUARES
    assert len(list(tmp_path.iterdir())) >= 3
    printed, said = capsys.readouterr()
    assert said.startswith("2 workers of Ray, each with 1 CPU\n")
    assert said.count("died, and another does its") == 2
    assert printed == ""


def test_what_kills_each_worker_is_told() -> None:
    message = r"3 workers have died of the same 3 items, the first of which is 18: "
    with pytest.raises(UserError, match=message):
        squares_by(RayEngine(workers=2), Squares(fatal=20))


def test_an_error_arrives_as_it_was_raised() -> None:
    engine = RayEngine(workers=1)
    with pytest.raises(UserError, match=r"^7 is no number$"):
        squares_by(engine, Squares(bad=7))
    missing = UserError("small.pt: there is no such file; weights must be a local .pt file")
    with pytest.raises(UserError, match=f"^{missing}$"):
        squares_by(engine, Squares(wrong=missing))
    with pytest.raises(ZeroDivisionError, match="by zero") as raised:
        squares_by(engine, Squares(wrong=ZeroDivisionError("by zero")))
    assert "in load" in raised.value.__notes__[0]


def test_workers_that_compute_otherwise_are_refused() -> None:
    with RayEngine(workers=1).workers(Squares()) as workers:
        # As if the first had been another machine, and is replaced by this one.
        workers._facts = Facts("cpu: elsewhere", {"threads": 8})
        workers._lose(workers._hands[0], RuntimeError("gone"))
        with pytest.raises(UserError, match=r"with threads 1, and others .* with threads 8"):
            squares(workers)


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
