"""Runs whose work is done by a Ray cluster: the same rows as without, whoever is killed on the way."""

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import ray
from PIL import Image
from ray_tasks import contents

from nearsql.pipeline import embed as embed_module
from nearsql.pipeline.console import UserError
from nearsql.pipeline.embed import embed
from nearsql.pipeline.engines import ray_worker
from nearsql.pipeline.engines.ray_cluster import connected
from nearsql.pipeline.engines.ray_engine import RayEngine, RayWorkers
from nearsql.pipeline.ingest import ingest_images, ingest_texts
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.replay import replay
from nearsql.udfs import connection, dbapi

IMAGES = 40
POINTS = 1300  # three blocks of queries
BY_TWO = RayEngine(workers=2)


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[str]:
    """A cluster for all tests here: its address."""
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("RAY_ADDRESS", raising=False)
        with connected(None, 2):
            yield ray.get_runtime_context().gcs_address


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


def in_each(copies: tuple[Path, Path], work: Callable[[dbapi.Connection, Any], Any]) -> None:
    """The same work in each of the copies: here, and by two workers; the same comes out."""
    for path, engine in zip(copies, (None, BY_TWO), strict=True):
        with closing(connection.connect(path)) as db:
            work(db, engine)
    here, there = map(contents, copies)
    assert here == there


def test_the_same_rows_and_errors(copies: tuple[Path, Path]) -> None:
    def work(db: dbapi.Connection, engine: Any) -> None:
        images = embed(db, "pixels", collection="pictures", batch_size=3, engine=engine)
        assert (images.counts["vectors"], images.counts["errors"]) == (IMAGES - 2, 2)
        embed(db, "tfidf", collection="texts", batch_size=3, engine=engine)
        again = embed(db, "tfidf", collection="texts", engine=engine)
        assert again.run_id is None
        neighbors(db, ["p"], k=5, engine=engine)
        neighbors(
            db,
            ["p"],
            k=5,
            within="select id from items where id between 1000 and 1009",
            engine=engine,
        )

    in_each(copies, work)
    with closing(connection.connect(copies[1])) as db:
        by = db.execute(
            "select id, counts_json ->> 'workers', versions_json ->> 'ray' from runs"
            " where kind in ('embed', 'neighbors') order by id"
        ).fetchall()
        assert len(by) == 4
        assert all((n, version) == (2, ray.__version__) for _, n, version in by)
        for run_id, _, _ in by[1:]:  # the first run's images are no more
            assert replay(db, run_id).is_same
        messages = db.execute("select message from item_errors order by item_id").fetchall()
    assert "No such file" in messages[0][0]
    assert "changed on disk" in messages[1][0]


def test_a_worker_that_is_killed_costs_nothing(
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
                os.kill(process, signal.SIGKILL)

    monkeypatch.setattr(RayWorkers, "start", started)
    monkeypatch.setattr(embed_module, "_write", killing)
    in_each(
        copies,
        lambda db, engine: embed(db, "pixels", collection="pictures", batch_size=1, engine=engine),
    )
    assert teams[0].n_lost >= 1
    with closing(connection.connect(copies[1])) as db:
        (lost,) = db.execute(
            "select counts_json ->> 'workers_lost' from runs where kind = 'embed'"
        ).fetchone()
    assert lost == teams[0].n_lost


SLOWLY = """
import sys, time
from nearsql.pipeline import cli, neighbors as module
module._ROWS_A_WRITE = 1
write = module._write
def slowly(*args):
    write(*args)
    time.sleep(600)
module._write = slowly
cli.main(sys.argv[1:])
"""


def test_the_command_is_killed_and_another_engine_goes_on(
    copies: tuple[Path, Path], cluster: str
) -> None:
    here, there = copies
    words = ["neighbors", str(there), "p", "-k", "5", "--engine", "ray", "--ray-address", cluster]
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


def test_what_is_refused(copies: tuple[Path, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    with closing(connection.connect(copies[0])) as db:
        with pytest.raises(UserError, match="llm: leaves the work to a provider"):
            embed(db, "llm:any", engine=BY_TWO)
        monkeypatch.setattr("nearsql.pipeline.engines.ray_engine.__version__", "0.0.1")
        with pytest.raises(UserError, match=f"have nearsql {ray_worker.__version__}, and this is"):
            embed(db, "pixels", collection="pictures", engine=BY_TWO)
        assert db.execute("select count(*) from runs where kind = 'embed'").fetchone() == (0,)
