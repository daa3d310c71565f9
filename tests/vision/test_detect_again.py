"""Detect runs beside one another and after one another: what changed, was deleted or failed meanwhile."""

import io
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from detectors import random_image, save_detector
from PIL import Image

from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect import metric_space, run
from nearsql.pipeline.detect.check import check_vision
from nearsql.pipeline.detect.ground_truth import read_truth
from nearsql.pipeline.detect.run import detect
from nearsql.pipeline.detect.settings import Settings
from nearsql.pipeline.ingest import ingest_image_bytes, ingest_images
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.pipeline.runs import mark_interrupted
from nearsql.udfs import connection, dbapi

pytestmark = pytest.mark.usefixtures("one_thread")

QUICK: dict[str, Any] = {"imgsz": 64, "batch": 2, "conf": 0.05}
SPACES = ["small/gap/p3", "small/gap/p4", "small/gap/p5"]


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("weights") / "small.pt", "yolov8n")


@pytest.fixture
def shapes(db: dbapi.Connection) -> dbapi.Connection:
    """Four images with an object each, in two collections."""
    for collection, seeds in (("a", range(2)), ("b", range(2, 4))):
        rows = []
        for seed in seeds:
            buffer = io.BytesIO()
            Image.fromarray(random_image(seed)).save(buffer, "PNG")
            rows.append((f"memory:{seed}", buffer.getvalue(), {}, {}))
        ingest_image_bytes(db, rows, collection=collection, source="test")
    for item_id in range(1, 5):
        annotate(db, item_id, "0", 90.0)
    return db


def annotate(db: dbapi.Connection, item_id: int, version: str, side: float) -> None:
    """Replaces an image's ground truth by one square."""
    db.execute("delete from annotations where item_id = ?", (item_id,))
    db.execute(
        "insert into annotations (item_id, class_id, class_name, x_min, y_min, x_max, y_max, source)"
        " values (?, 0, 'class 1', 0, 0, ?, ?, 'test')",
        (item_id, side, side),
    )
    db.execute(
        "insert or replace into annotated_items (item_id, source, truth_sha256) values (?, 'test', ?)",
        (item_id, version * 64),
    )
    db.commit()


def judged_by(db: dbapi.Connection, run_id: int | None) -> list[int]:
    sql = "select item_id from image_metrics where run_id = ? order by 1"
    return [item_id for (item_id,) in db.execute(sql, (run_id,))]


def in_space(db: dbapi.Connection, name: str) -> list[int]:
    sql = "select item_id from vectors where space_id = (select id from spaces where name = ?)"
    return sorted(item_id for (item_id,) in db.execute(sql, (name,)))


def interrupt_after(monkeypatch: pytest.MonkeyPatch, batches: int) -> None:
    """Presses Ctrl-C when so many batches are written."""
    write, left = run._write, [batches]

    def written(*arguments: Any) -> None:
        if not left[0]:
            raise KeyboardInterrupt
        left[0] -= 1
        write(*arguments)

    monkeypatch.setattr(run, "_write", written)


def before_writing(monkeypatch: pytest.MonkeyPatch, change: Callable[[], None]) -> None:
    """Has another process change something between the judging and the writing of the first batch."""
    write, changes = run._write, [change]

    def written(*arguments: Any) -> None:
        while changes:
            changes.pop()()
        write(*arguments)

    monkeypatch.setattr(run, "_write", written)


def test_vectors_that_were_deleted_are_written_again(
    shapes: dbapi.Connection, weights: Path
) -> None:
    first = detect(shapes, weights, **QUICK, collection="a")
    second = detect(shapes, weights, **QUICK, collection="b")
    # The spaces are the first run's, and go with it, also the vectors that the second wrote.
    shapes.execute("delete from runs where id = ?", (first.run_id,))
    shapes.commit()
    assert in_space(shapes, "small/gap/p4") == []
    with pytest.raises(CannotReplay, match=r"averaged the layer p\d, and there is no space"):
        replay(shapes, second.run_id or 0)
    third = detect(shapes, weights, **QUICK)
    assert judged_by(shapes, third.run_id) == [1, 2, 3, 4]
    assert [in_space(shapes, name) for name in SPACES] == [[1, 2, 3, 4]] * 3
    shapes.execute(
        "delete from vectors where item_id = 2 and space_id ="
        " (select id from spaces where name = 'small/gap/p4')"
    )
    shapes.commit()
    assert judged_by(shapes, detect(shapes, weights, **QUICK).run_id) == [2]
    assert detect(shapes, weights, **QUICK).run_id is None


def test_a_resumed_run_judges_again_what_changed_meanwhile(
    shapes: dbapi.Connection, weights: Path, monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        detect(shapes, weights, **QUICK)
    monkeypatch.undo()
    (run_id, status, timings) = shapes.execute(
        "select id, status, timings_json from runs where kind = 'detect'"
    ).fetchone()
    assert status == "interrupted"
    assert json.loads(timings)["model"] > 0
    assert judged_by(shapes, run_id) == [1, 2]
    annotate(shapes, 2, "1", 50.0)
    shapes.execute("delete from items where id in (1, 3)")
    shapes.commit()
    resumed = detect(shapes, weights, **QUICK)
    assert resumed.run_id == run_id
    rows = shapes.execute("select item_id, truth_sha256 from image_metrics order by 1").fetchall()
    assert rows == [(2, "1" * 64), (4, "0" * 64)]
    assert resumed.counts["images"] == 2
    assert [in_space(shapes, name) for name in (*SPACES, "small/metrics")] == [[2, 4]] * 4
    assert replay(shapes, run_id).is_same
    assert detect(shapes, weights, **QUICK).run_id is None


def test_a_resumed_run_tries_again_to_read_a_file(
    db: dbapi.Connection, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    for seed in range(4):
        Image.fromarray(random_image(seed)).save(tmp_path / f"{seed}.png")
    ingest_images(db, tmp_path)
    gone = (tmp_path / "0.png").rename(tmp_path / "away")
    interrupt_after(monkeypatch, 1)
    with pytest.raises(KeyboardInterrupt):
        detect(db, weights, **QUICK)
    monkeypatch.undo()
    gone.rename(tmp_path / "0.png")
    resumed = detect(db, weights, **QUICK)
    assert (resumed.counts["images"], resumed.counts["errors"]) == (4, 0)


def test_a_file_that_came_back_does_not_change_a_replay(
    db: dbapi.Connection, weights: Path, tmp_path: Path
) -> None:
    for seed in range(3):
        Image.fromarray(random_image(seed)).save(tmp_path / f"{seed}.png")
    ingest_images(db, tmp_path)
    gone = (tmp_path / "1.png").rename(tmp_path / "away")
    result = detect(db, weights, **{**QUICK, "batch": 1})
    gone.rename(tmp_path / "1.png")
    assert replay(db, result.run_id or 0).is_same


def test_what_changes_while_it_is_judged_is_left_to_the_next_run(
    shapes: dbapi.Connection, weights: Path, monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    other = connection.connect(database)

    before_writing(monkeypatch, lambda: annotate(other, 2, "1", 50.0))
    result = detect(shapes, weights, **QUICK)
    assert judged_by(shapes, result.run_id) == [1, 3, 4]
    assert shapes.execute("select item_id, stage, message from item_errors").fetchall() == [
        (2, "truth", "its annotations changed while it was judged: run again")
    ]
    assert replay(shapes, result.run_id or 0).is_same

    def delete() -> None:
        other.execute("delete from items where id = 2")
        other.commit()

    annotate(shapes, 3, "1", 50.0)
    before_writing(monkeypatch, delete)
    assert judged_by(shapes, detect(shapes, weights, **QUICK).run_id) == [3]
    other.close()


def test_a_run_that_fails_at_the_end_goes_on_there(
    shapes: dbapi.Connection, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any) -> int:
        raise OSError("the disk is full")

    monkeypatch.setattr(metric_space, "refresh", fail)
    with pytest.raises(OSError, match="the disk is full"):
        detect(shapes, weights, **QUICK)
    monkeypatch.undo()
    resumed = detect(shapes, weights, **QUICK)
    assert shapes.execute("select id, status from runs where kind = 'detect'").fetchall() == [
        (resumed.run_id, "finished")
    ]
    assert in_space(shapes, "small/metrics") == judged_by(shapes, resumed.run_id) == [1, 2, 3, 4]


def test_two_runs_that_end_together_leave_a_space_of_both(
    shapes: dbapi.Connection, weights: Path, monkeypatch: pytest.MonkeyPatch, database: Path
) -> None:
    other = connection.connect(database)
    refresh = metric_space.refresh

    def refresh_after_the_other(*arguments: Any) -> int:
        n = refresh(*arguments)
        monkeypatch.setattr(metric_space, "refresh", refresh)
        detect(other, weights, **QUICK, collection="b")  # while the first run is not yet finished
        return n

    monkeypatch.setattr(metric_space, "refresh", refresh_after_the_other)
    detect(shapes, weights, **QUICK, collection="a")
    other.close()
    assert in_space(shapes, "small/metrics") == [1, 2, 3, 4]
    assert mark_interrupted(shapes) == 0


def test_rows_of_deleted_items_cannot_be_replayed(shapes: dbapi.Connection, weights: Path) -> None:
    result = detect(shapes, weights, **QUICK)
    shapes.execute("delete from items where id = 3")
    shapes.commit()
    with pytest.raises(CannotReplay, match=r"wrote 4 images, and 3 are left"):
        replay(shapes, result.run_id or 0)


def test_names_that_spaces_could_not_bear(shapes: dbapi.Connection, weights: Path) -> None:
    with pytest.raises(UserError, match=r"'a/gap/b' is no name for it.*--name"):
        detect(shapes, weights, name="a/gap/b", **QUICK)
    # A space of that name that somebody else made is not written into.
    shapes.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('mine/metrics', 'metric', 2, 'l2')"
    )
    shapes.execute(
        "insert into spaces (name, kind, dimensions, metric)"
        " values ('yours/gap/p3', 'feature', 64, 'cosine')"
    )
    shapes.commit()
    with pytest.raises(UserError, match="'mine/metrics' is the name of something else"):
        detect(shapes, weights, name="mine", **QUICK)
    with pytest.raises(UserError, match="'yours/gap/p3' was not made by this model"):
        detect(shapes, weights, name="yours", **QUICK)


def test_a_head_of_larger_strides_needs_larger_steps() -> None:
    settings = Settings("0" * 64, imgsz=96)
    settings.check()
    with pytest.raises(UserError, match="a multiple of 64 up to 4096, such as 640, not 96"):
        settings.check(64)


def test_classes_of_one_name_are_told_apart_by_their_numbers(shapes: dbapi.Connection) -> None:
    shapes.execute("update annotations set class_id = 2 where item_id = 1")
    shapes.execute("update annotations set class_id = 7 where item_id = 2")
    truths = read_truth(shapes, [1, 2], ["class 1", "x", "class 1"])
    assert truths[1].targets[0].class_index == 2
    assert truths[2].targets[0].class_index == 0


def test_truth_and_its_hash_are_read_together(shapes: dbapi.Connection) -> None:
    """One statement sees one state of the file."""
    seen: list[str] = []
    shapes.set_trace_callback(seen.append)
    read_truth(shapes, [1, 2], ["class 1"])
    shapes.set_trace_callback(None)
    assert len([sql for sql in seen if "annotat" in sql]) == 1


def test_the_check_sees_rows_that_are_gone(shapes: dbapi.Connection, weights: Path) -> None:
    detect(shapes, weights, **QUICK)
    shapes.execute("delete from losses where item_id = 1 and component = 'cls'")
    shapes.execute("delete from vectors where item_id = 2")
    zeros = np.zeros(64, "<f4").tobytes()
    shapes.execute(
        "update vectors set vector = ? where item_id = 3 and space_id ="
        " (select id from spaces where name = 'small/gap/p3')",
        (zeros,),
    )
    shapes.commit()
    wrong = {f.check: f.wrong for f in check_vision(shapes) if f.wrong}
    assert wrong["losses"] == 2  # one component less, and its value
    assert wrong["features, as cosine distance"] == 3 + 1
