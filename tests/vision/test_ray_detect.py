"""What a detector says of images is the same by the workers of a Ray cluster, to the last bit."""

import os
import shutil
import signal
from collections.abc import Callable, Iterator
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

import pytest
from detectors import assets, random_image, save_detector
from ray_tasks import contents

from nearsql.pipeline.annotations import annotate
from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect import run as detect_module
from nearsql.pipeline.detect.judge import JudgeTask
from nearsql.pipeline.detect.run import detect
from nearsql.pipeline.detect.settings import Settings
from nearsql.pipeline.engines.ray_cluster import connected
from nearsql.pipeline.engines.ray_engine import RayEngine, RayWorkers
from nearsql.pipeline.ingest import ingest_images
from nearsql.pipeline.loss_distance.run import loss_distance
from nearsql.udfs import connection, dbapi

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patched:
        patched.delenv("RAY_ADDRESS", raising=False)
        with connected(None, 2):
            yield


def in_each(
    database: Path, engine: RayEngine, work: Callable[[dbapi.Connection, Any], Any]
) -> Path:
    """The same work in two copies: here, and by the engine; the same comes out. Gives the second."""
    copies = [Path(shutil.copy(database, database.with_name(name))) for name in ("a.db", "b.db")]
    for path, by in zip(copies, (None, engine), strict=True):
        with closing(connection.connect(path)) as db:
            work(db, by)
    here, there = map(contents, copies)
    assert here == there
    return copies[1]


def test_detections_and_loss_distances(database: Path, tmp_path: Path) -> None:
    from PIL import Image

    images = tmp_path / "images"
    images.mkdir()
    for seed in range(5):
        Image.fromarray(random_image(seed, 120, 100)).save(images / f"{seed}.png")
    with closing(connection.connect(database)) as db:
        ingest_images(db, images, collection="shapes")
    (images / "1.png").unlink()
    weights = save_detector(tmp_path / "small.pt", "yolov8n")

    def work(db: dbapi.Connection, engine: Any) -> None:
        options: dict[str, Any] = {"imgsz": 64, "conf": 0.05, "batch": 2, "device": "cpu"}
        found = detect(db, weights, **options, engine=engine)
        assert (found.counts["images"], found.counts["errors"]) == (4, 1)
        assert found.run_id is not None
        held = loss_distance(db, found.run_id, device="cpu", engine=engine)
        assert held.counts["pairs"] == held.counts["forward_images"] * 4 == 16

    in_each(database, RayEngine(workers=1), work)


def test_where_the_weights_are_not_or_others(tmp_path: Path) -> None:
    weights = save_detector(tmp_path / "small.pt", "yolov8n")
    task = JudgeTask(str(weights), "cpu", Settings("0" * 64), {})
    with pytest.raises(UserError, match=r"small.pt is another checkpoint there than here$"):
        task.load()
    weights.unlink()
    with pytest.raises(UserError, match=r"small.pt: there is no such file; weights must be"):
        task.load()


@pytest.mark.assets
def test_coco128_though_a_worker_is_killed(database: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    root = assets() / "coco128-seg"
    with closing(connection.connect(database)) as db:
        ingest_images(db, root, collection="coco")
        annotate(db, "coco", "yolo", root, classes=assets() / "coco128-seg.yaml")
    write, start = detect_module._write, RayWorkers.start
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
    monkeypatch.setattr(detect_module, "_write", killing)

    def work(db: dbapi.Connection, engine: Any) -> None:
        weights = assets() / "weights" / "yolov8n-seg.pt"
        found = detect(db, weights, imgsz=96, device="cpu", engine=engine)
        assert found.counts["images"] == found.counts["annotated"] == 128

    there = in_each(database, RayEngine(workers=2), work)
    assert teams[0].n_lost == 1
    with closing(connection.connect(there)) as db:
        lost = "select counts_json ->> 'workers_lost' from runs where kind = 'detect'"
        assert db.execute(lost).fetchone() == (1,)
