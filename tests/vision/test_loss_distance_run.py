"""The loss-distance run: its rows, what it leaves to the next one, what it refuses."""

import io
import json
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from detectors import CLASSES, random_image, saved_detector
from PIL import Image

from nearsql.pipeline import runs
from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.forward import forward
from nearsql.pipeline.detect.letterbox import letterbox
from nearsql.pipeline.detect.losses import image_losses
from nearsql.pipeline.detect.weights import load_detector, state_sha256
from nearsql.pipeline.ingest import ingest_image_bytes
from nearsql.pipeline.loss_distance import rows as rows_module
from nearsql.pipeline.loss_distance import run as module
from nearsql.pipeline.loss_distance import work
from nearsql.pipeline.loss_distance.detect_run import read_detect_run, read_predictions
from nearsql.pipeline.loss_distance.image_side import ImageSide, PairLosses
from nearsql.pipeline.loss_distance.pairs import checked_choice, choose_pairs
from nearsql.pipeline.loss_distance.run import loss_distance
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import dbapi

pytestmark = pytest.mark.usefixtures("one_thread")

SIZE = 160
N = 5
EMPTY = 3  # the item without predictions

Rows = list[tuple[Any, ...]]


@pytest.fixture
def detected(db: dbapi.Connection) -> dbapi.Connection:
    """Five images of different shapes; run 2 says what a detector has seen in them."""
    add_images(db, N)
    add_detect_run(db, "yolov8n-seg")
    return db


def add_images(db: dbapi.Connection, count: int) -> None:
    rows = []
    for seed in range(count):
        buffer = io.BytesIO()
        Image.fromarray(random_image(seed, 200 + 20 * seed, 240)).save(buffer, "PNG")
        rows.append((f"memory:{seed}", buffer.getvalue(), {}, {}))
    ingest_image_bytes(db, rows, collection="shapes", source="test")


def add_detect_run(db: dbapi.Connection, family: str, **settings: Any) -> int:
    """A finished detect run with predictions drawn at random, as `detect` would have written it."""
    weights = saved_detector(family)
    detector = load_detector(weights)
    rng = np.random.default_rng(7)
    parameters = {
        "weights": str(weights),
        "settings": {"imgsz": SIZE, "conf": 0.25, "checkpoint_sha256": detector.sha256} | settings,
    }
    with runs.immediate(db):
        model_id = db.execute(
            "insert into models (name, family, checkpoint_sha256) values (?, 'yolo', ?)",
            (family, detector.sha256),
        ).lastrowid
    with (
        runs.run(db, "detect", parameters=parameters, model_id=model_id) as current,
        runs.immediate(db),
    ):
        for item_id, width, height in db.execute("select id, width, height from items").fetchall():
            n_pred = 0 if item_id == EMPTY else int(rng.integers(1, 5))
            for _ in range(n_pred):
                x, y = (np.sort(rng.uniform(0, side, 2)) for side in (width, height))
                mask = None
                if family.endswith("-seg"):
                    mask = json.dumps(rectangle(height, width, *x, *y))
                db.execute(
                    "insert into predictions (run_id, item_id, class_id, confidence, x_min, y_min,"
                    " x_max, y_max, mask_json) values (?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(current.id, item_id, int(rng.integers(CLASSES)), rng.uniform(0.25, 1)),
                        *(x[0], y[0], x[1], y[1], mask),
                    ),
                )
            db.execute(
                "insert into image_metrics (run_id, item_id, n_pred) values (?, ?, ?)",
                (current.id, item_id, n_pred),
            )
    return current.id


def rectangle(
    height: int, width: int, x0: float, x1: float, y0: float, y1: float
) -> dict[str, Any]:
    from pycocotools import mask

    pixels = np.zeros((height, width), np.uint8, order="F")
    pixels[round(y0) : round(y1) + 1, round(x0) : round(x1) + 1] = 1
    return {"size": [height, width], "counts": mask.encode(pixels)["counts"].decode()}


def stored(db: dbapi.Connection, run_id: int) -> Rows:
    return db.execute(
        "select target_item_id, image_item_id, component, distance, reason, normaliser,"
        " n_foreground from loss_distances where run_id = ? order by 1, 2, 3",
        (run_id,),
    ).fetchall()


def naive(db: dbapi.Connection, detect_run: int) -> Rows:
    """A forward pass and the official criterion for each pair."""
    source = read_detect_run(db, detect_run)
    detector = load_detector(source.weights)
    predictions = read_predictions(db, source, 0.25)
    rows = []
    for image in source.item_ids:
        (data,) = db.execute("select data from item_images where item_id = ?", (image,)).fetchone()
        square, _ = letterbox(np.array(Image.open(io.BytesIO(data))), SIZE)
        for n, target in enumerate(source.item_ids):
            (losses,) = image_losses(
                detector,
                forward(detector, [square]),
                [predictions.targets[n]],
                [predictions.frames[n]],
            )
            for component, value in losses.values.items():
                rows.append((target, image, component, value, losses.normaliser))
    return sorted(rows)


@pytest.mark.parametrize("family", ["yolov8n-seg", "yolo26n"])
def test_rows_are_those_of_the_naive_loop(db: dbapi.Connection, family: str) -> None:
    add_images(db, N)
    detect_run = add_detect_run(db, family)
    result = loss_distance(db, detect_run)
    got, expected = stored(db, result.run_id), naive(db, detect_run)
    assert [row[:3] for row in got] == [row[:3] for row in expected]
    for row, (*_, value, normaliser) in zip(got, expected, strict=True):
        assert row[3] == (None if value is None else pytest.approx(value, rel=1e-4))
        assert row[5] == pytest.approx(normaliser, rel=1e-4)
        assert (row[4] is None) == (value is not None)
    undefined = [row for row in got if row[3] is None]
    assert {(row[2], row[4]) for row in undefined if row[0] == EMPTY} == {
        (component, "the target has no predictions")
        for component in result.components
        if component != "cls"
    }
    assert result.counts == {
        "forward_images": N,
        "images": N,
        "targets": N,
        "pairs": N * N,
        "rows": N * N * len(result.components),
        "undefined": len(undefined),
    }


def test_what_a_run_records(detected: dbapi.Connection, monkeypatch: pytest.MonkeyPatch) -> None:
    detectors = []

    def load(*arguments: Any, **more: Any) -> Any:
        detectors.append(load_detector(*arguments, **more))
        return detectors[-1]

    monkeypatch.setattr(work, "load_detector", load)
    before = state_sha256(load_detector(saved_detector("yolov8n-seg")))
    result = loss_distance(detected, 2, components=["cls", "box"])
    (detector,) = detectors
    assert detector.n_forwards == N
    assert state_sha256(detector) == before
    assert result.components == ("box", "cls")
    kind, status, model, parameters, counts, seed = detected.execute(
        "select kind, status, model_id, parameters_json, counts_json, seed from runs where id = ?",
        (result.run_id,),
    ).fetchone()
    assert (kind, status, model, seed) == ("loss-distance", "finished", 1, None)
    recorded = json.loads(parameters)
    assert {name: recorded[name] for name in ("run", "pairs", "components", "conf", "imgsz")} == {
        "run": 2,
        "pairs": "all",
        "components": ["box", "cls"],
        "conf": 0.25,
        "imgsz": SIZE,
    }
    assert json.loads(counts) == result.counts
    (n_predictions,) = detected.execute("select count(*) from predictions").fetchone()
    assert detected.execute(
        "select kind, input_run_id, rows from run_inputs where run_id = ? order by id",
        (result.run_id,),
    ).fetchall() == [("run", 2, n_predictions), ("file", None, None)]
    assert {row[2] for row in stored(detected, result.run_id)} == {"box", "cls"}


def test_a_second_run_does_no_work(
    detected: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = loss_distance(detected, 2, components=["cls"])
    fill = module._fill
    monkeypatch.setattr(module, "_fill", None)
    again = loss_distance(detected, 2, components=["cls"])
    assert (again.run_id, again.is_new) == (first.run_id, False)
    assert again.counts == first.counts
    assert detected.execute("select count(*) from runs").fetchone() == (3,)
    monkeypatch.setattr(module, "_fill", fill)
    assert loss_distance(detected, 2, components=["box"]).is_new
    assert loss_distance(detected, 2, components=["cls"], conf=0.5).is_new


def test_replay_gives_the_same(detected: dbapi.Connection) -> None:
    for options in ({}, {"pairs": "landmarks", "landmarks": 2, "seed": 3}):
        result = loss_distance(detected, 2, **options)
        done = replay(detected, result.run_id)
        assert done.is_same
    detected.execute("update loss_distances set distance = distance + 1 where component = 'cls'")
    detected.execute("update predictions set class_id = 0 where id = 1")
    detected.commit()
    with pytest.raises(CannotReplay, match="the predictions that run 3 was made with have changed"):
        replay(detected, 3)


KILLED = """
import os, signal, sys
import torch
torch.set_num_threads(1)
from nearsql.pipeline.loss_distance import run as module
from nearsql.udfs import connection

insert, written = module.insert_rows, []

def insert_or_die(*arguments):
    insert(*arguments)
    written.append(1)
    if len(written) == 3:
        os.kill(os.getpid(), signal.SIGKILL)  # in the middle of the third image's transaction

module.insert_rows = insert_or_die
module.loss_distance(connection.connect(sys.argv[1]), 2)
"""


def test_a_killed_run_goes_on(
    detected: dbapi.Connection, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    done = subprocess.run([sys.executable, "-c", KILLED, str(database)], capture_output=True)
    assert done.returncode == -signal.SIGKILL
    assert detected.execute(
        "select count(distinct image_item_id) from loss_distances"
    ).fetchone() == (2,)
    forwards = []
    monkeypatch.setattr(module, "_write", counted(module._write, forwards))
    result = loss_distance(detected, 2)
    assert (result.run_id, result.is_new) == (3, True)
    assert len(forwards) == N - 2
    assert result.counts["forward_images"] == N
    rows = stored(detected, 3)
    assert len(rows) == N * N * 4
    detected.execute("delete from runs where id = 3")
    detected.commit()
    assert stored(detected, loss_distance(detected, 2).run_id) == rows


def counted(function: Any, calls: list[Any]) -> Any:
    def call(*arguments: Any) -> Any:
        calls.append(arguments)
        return function(*arguments)

    return call


def test_an_unreadable_image_is_told_and_tried_again(db: dbapi.Connection, tmp_path: Path) -> None:
    from nearsql.pipeline.ingest import ingest_images

    folder = tmp_path / "images"
    folder.mkdir()
    for seed in range(3):
        Image.fromarray(random_image(seed)).save(folder / f"{seed}.png")
    ingest_images(db, folder, collection="files")
    add_detect_run(db, "yolov8n")
    moved = (folder / "1.png").rename(tmp_path / "1.png")
    result = loss_distance(db, 2)
    assert (result.counts["errors"], result.counts["images"]) == (1, 2)
    ((item_id, stage, message),) = db.execute(
        "select item_id, stage, message from item_errors where run_id = ?", (result.run_id,)
    ).fetchall()
    assert (item_id, stage) == (2, "read")
    assert "No such file" in message
    rows = stored(db, result.run_id)
    assert {row[1] for row in rows} == {1, 3}
    assert {row[0] for row in rows} == {1, 2, 3}  # its predictions are known
    assert not loss_distance(db, 2).is_new  # it still is not there
    moved.rename(folder / "1.png")
    better = loss_distance(db, 2)
    assert better.is_new
    assert {row[1] for row in stored(db, better.run_id)} == {1, 2, 3}


def test_a_prediction_without_a_mask_leaves_seg_undefined(detected: dbapi.Connection) -> None:
    detected.execute("update predictions set mask_json = null where id = 1")  # of item 1
    detected.commit()
    (n_objects,) = detected.execute("select count(*) from predictions where item_id = 1").fetchone()
    found = stored(detected, loss_distance(detected, 2).run_id)
    of_first = [row for row in found if row[0] == 1 and row[2] == "seg"]
    assert [row[3] for row in of_first] == [None] * N
    expected = f"1 of the target's {n_objects} predictions have no mask"
    assert expected in {row[4] for row in of_first}
    assert [row for row in found if row[0] == 1 and row[2] == "box" and row[3] is not None]


def test_what_is_no_number_has_no_distance(
    detected: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(ImageSide):
        def losses(self, *arguments: Any) -> PairLosses:
            found = super().losses(*arguments)
            found.values["cls"][1] = float("nan")
            return found

    monkeypatch.setattr(rows_module, "ImageSide", Broken)
    found = stored(detected, loss_distance(detected, 2, components=["cls"]).run_id)
    assert {row[0] for row in found if row[3] is None} == {2}
    assert {row[4] for row in found if row[3] is None} == {"the criterion gives nan"}


def test_masks_that_assign_must_be_there(db: dbapi.Connection) -> None:
    add_images(db, 2)
    add_detect_run(db, "yolo26n-seg")
    db.execute("update predictions set mask_json = null where item_id = 1")
    db.commit()
    rows = stored(db, loss_distance(db, 2).run_id)
    of_first = [row for row in rows if row[0] == 1]
    assert len(of_first) == 10
    for row in of_first:
        assert row[3] is None
        assert row[5:] == (None, None)
        assert "assigns predictions to anchors by their masks" in row[4]
    assert not [row for row in rows if row[0] == 2 and row[5] is None]


def test_candidates_are_the_neighbours_both_ways(detected: dbapi.Connection) -> None:
    with runs.immediate(detected):
        detected.execute(
            "insert into spaces (name, kind, dimensions, metric) values ('line', 'feature', 1, 'l2')"
        )
        for item_id, place in ((1, 0.0), (2, 1.0), (4, 3.0), (5, 7.0)):  # 3 has no vector
            detected.execute(
                "insert into vectors (space_id, item_id, vector) values (1, ?, ?)",
                (item_id, np.float32(place).tobytes()),
            )
    result = loss_distance(detected, 2, pairs="candidates", space="line", k=1, components=["cls"])
    rows = stored(detected, result.run_id)
    assert {row[:2] for row in rows} == {(1, 2), (2, 1), (2, 4), (4, 2), (4, 5), (5, 4)}
    every = {row[:3]: row[3:] for row in stored(detected, loss_distance(detected, 2).run_id)}
    for row in rows:
        assert row[3] == pytest.approx(every[row[:3]][0], rel=1e-5)
    parameters, kind = detected.execute(
        "select parameters_json, (select kind from run_inputs where run_id = runs.id and space_id = 1)"
        " from runs where id = ?",
        (result.run_id,),
    ).fetchone()
    assert (json.loads(parameters)["space"], json.loads(parameters)["k"]) == ("line", 1)
    assert kind == "space"
    assert replay(detected, result.run_id).is_same


def test_landmarks_are_drawn_by_the_seed(detected: dbapi.Connection) -> None:
    drawn = []
    for seed in (0, 1, 2):
        options = {"pairs": "landmarks", "landmarks": 2, "seed": seed, "components": ["cls"]}
        result = loss_distance(detected, 2, **options)
        rows = stored(detected, result.run_id)
        assert {row[1] for row in rows} == {1, 2, 3, 4, 5}
        drawn.append({row[0] for row in rows})
        assert not loss_distance(detected, 2, **options).is_new
        assert detected.execute(
            "select seed from runs where id = ?", (result.run_id,)
        ).fetchone() == (seed,)
    assert [len(targets) for targets in drawn] == [2, 2, 2]
    assert len(set(map(frozenset, drawn))) > 1
    pairs = choose_pairs(detected, checked_choice("landmarks", landmarks=2), [1, 2, 3, 4, 5])
    assert {n + 1 for n in pairs.targets} == drawn[0]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"detect_run": 1}, r"RUN must be a detect run, not 1 \(that one is of kind 'ingest'\)"),
        ({"detect_run": 9}, r"not 9 \(there is no such run\): those are 2"),
        ({"conf": 0.1}, "run 2 did not store: it has those of confidence 0.25 or more"),
        ({"conf": 1.5}, "--conf must be from 0 to 1, not 1.5"),
        ({"components": ["sem"]}, "has no loss component 'sem': it has box, seg, cls, dfl"),
        ({"components": []}, "--components names none of box, seg, cls, dfl"),
        ({"pairs": "some"}, "--pairs must be one of all, candidates, landmarks, not 'some'"),
        ({"pairs": "candidates"}, "--pairs candidates needs --space"),
        ({"pairs": "candidates", "space": "x", "k": 0}, "-k must be at least 1, not 0"),
        ({"pairs": "landmarks"}, "needs --landmarks, the number of targets to draw"),
        ({"pairs": "landmarks", "landmarks": 0}, "--landmarks must be at least 1, not 0"),
        ({"pairs": "landmarks", "landmarks": 6}, "more targets than the 5 images there are"),
        ({"seed": 1}, "--seed belongs to --pairs landmarks, not to --pairs all"),
        ({"weights": "nowhere.pt"}, "nowhere.pt"),
        ({"device": "quantum"}, "there is no device 'quantum'"),
    ],
)
def test_refusals(detected: dbapi.Connection, options: dict[str, Any], message: str) -> None:
    with pytest.raises(UserError, match=message):
        loss_distance(detected, **{"detect_run": 2, **options})
    assert detected.execute("select count(*) from runs").fetchone() == (2,)


def test_other_weights_are_refused(detected: dbapi.Connection) -> None:
    with pytest.raises(UserError, match="is not the checkpoint that run 2 was made with"):
        loss_distance(detected, 2, weights=saved_detector("yolov8n"))


def test_very_many_rows_are_only_written_when_asked_for(
    detected: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "ROWS_WORTH_ASKING", 24)
    with pytest.raises(
        UserError, match=r"25 pairs are 25 rows, .*--pairs landmarks or --pairs cand"
    ):
        loss_distance(detected, 2, components=["cls"])
    assert loss_distance(detected, 2, components=["cls"], yes=True).counts["rows"] == 25


def test_the_command(detected: dbapi.Connection, database: Path) -> None:
    called = CliRunner().invoke(
        cli, ["loss-distance", str(database), "2", "--components", "cls, box"]
    )
    assert called.exit_code == 0, called.output
    assert (
        "5 images against 5 targets, 25 pairs: 50 rows, about 4.0 kB in the file" in called.stderr
    )
    assert "run 3: yolov8n-seg" in called.stderr
    (hint,) = [line for line in called.stderr.splitlines() if "next:" in line]
    assert len(detected.execute(hint.split('"')[1]).fetchall()) == 4
    again = CliRunner().invoke(
        cli, ["loss-distance", str(database), "2", "--components", "box,cls", "--quiet"]
    )
    assert "nothing to do: run 3 has all of these distances" in again.stderr
    helped = CliRunner().invoke(cli, ["loss-distance", "--help"])
    assert "kept half of the true" in " ".join(helped.output.split())
