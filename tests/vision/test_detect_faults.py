"""What a detect run meets: hostile images, too little memory, numbers that are none, an end in the middle."""

import json
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from detectors import random_image
from PIL import Image
from shapes import BOX, IMAGES, QUICK, annotate, fill, said

from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.forward import forward
from nearsql.pipeline.detect.run import detect
from nearsql.pipeline.ingest import ingest_images
from nearsql.pipeline.replay import replay
from nearsql.udfs import connection, dbapi

pytestmark = pytest.mark.usefixtures("one_thread")


@pytest.fixture
def hostile_folder(tmp_path: Path) -> Path:
    """Images good and bad, in the order of their names."""
    folder = tmp_path / "pictures"
    folder.mkdir()
    Image.fromarray(random_image(1)).save(folder / "a.jpg", quality=95)
    turned = Image.fromarray(random_image(1)).transpose(Image.Transpose.ROTATE_90)
    exif = turned.getexif()
    exif[0x0112] = 6
    turned.save(folder / "b.png", exif=exif)
    wide = np.asarray(Image.fromarray(random_image(2)).convert("L")).astype(np.uint16) * 257
    Image.fromarray(wide).save(folder / "c.png")
    Image.fromarray(random_image(3)).save(folder / "d.jpg")
    Image.fromarray(random_image(4)).save(folder / "e.jpg")
    return folder


def test_hostile_images(db: dbapi.Connection, weights: Path, hostile_folder: Path) -> None:
    data = (hostile_folder / "d.jpg").read_bytes()
    (hostile_folder / "f.jpg").write_bytes(data[: len(data) // 2])
    (hostile_folder / "g.jpg").write_bytes(b"")
    bomb = Image.new("1", (20_000, 20_000))
    bomb.save(hostile_folder / "h.png")
    ingest_images(db, hostile_folder)
    refused = db.execute("select uri, message from item_errors order by uri").fetchall()
    assert [Path(uri).name for uri, _ in refused] == ["f.jpg", "g.jpg", "h.png"]
    # After the ingest: one file is cut off, another goes.
    (hostile_folder / "d.jpg").write_bytes(data[: len(data) // 2])
    (hostile_folder / "e.jpg").unlink()
    result = detect(db, weights, **QUICK)
    assert (result.counts["images"], result.counts["errors"]) == (3, 2)
    errors = db.execute(
        "select i.uri, e.stage, e.message from item_errors e join items i on i.id = e.item_id"
        " where e.run_id = ? order by 1",
        (result.run_id,),
    ).fetchall()
    assert [(Path(uri).name, stage) for uri, stage, _ in errors] == [
        ("d.jpg", "read"),
        ("e.jpg", "read"),
    ]
    assert "changed on disk" in errors[0][2]
    # The EXIF-rotated picture is seen as it is shown: upright, 320 wide.
    size = db.execute("select width, height from items where uri like '%b.png'").fetchone()
    assert size == (320, 240)
    (box,) = db.execute(
        "select max(x_max) from predictions p join items i on i.id = p.item_id"
        " where i.uri like '%b.png'"
    ).fetchone()
    assert box > 240
    # A file that comes back is read by the next run; what cannot change is not tried again.
    (hostile_folder / "d.jpg").write_bytes(data)
    assert detect(db, weights, **QUICK).counts["images"] == 1


def test_out_of_memory_halves_the_batch(
    shapes: dbapi.Connection, weights: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from nearsql.pipeline.detect import judge

    sizes = []

    def small_memory(detector, squares, **options):
        sizes.append(len(squares))
        if len(squares) > 1:
            raise torch.OutOfMemoryError("CUDA out of memory")
        return forward(detector, squares, **options)

    monkeypatch.setattr(judge, "forward", small_memory)
    halved = detect(shapes, weights, **{**QUICK, "batch": 4})
    assert sizes == [4, 2, 1, 1, 2, 1, 1, 3, 1, 2, 1, 1]
    monkeypatch.undo()
    other = connection.create(tmp_path / "other.db")
    fill(other)
    detect(other, weights, **{**QUICK, "batch": 1})
    assert said(other)["predictions"] == said(shapes, halved.run_id)["predictions"]
    assert said(other)["losses"] == said(shapes, halved.run_id)["losses"]
    other.close()


def test_ground_truth_that_cannot_be_used_spoils_only_its_image(
    shapes: dbapi.Connection, weights: Path
) -> None:
    shapes.execute(
        "update annotations set polygons_json = null, mask_json = ? where item_id = 2",
        (json.dumps({"size": [3, 3], "counts": "09"}),),
    )
    shapes.commit()
    result = detect(shapes, weights, **QUICK)
    assert (result.counts["images"], result.counts["errors"]) == (IMAGES - 1, 1)
    stage, message = shapes.execute(
        "select stage, message from item_errors where item_id = 2"
    ).fetchone()
    assert stage == "truth"
    assert message.startswith("its ground truth cannot be used, ingest it again: the mask")
    annotate(shapes, 2, ("class 1", BOX))
    assert detect(shapes, weights, **QUICK).counts["images"] == 1


def test_numbers_that_are_not_finite_spoil_only_their_image(
    shapes: dbapi.Connection, weights: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearsql.pipeline.detect import judge

    def broken(detector, squares, **options):
        outputs = forward(detector, squares, **options)
        outputs.decoded[0, 5, 0] = torch.nan
        outputs.features["p4"][1, 0, 0, 0] = torch.inf
        return outputs

    monkeypatch.setattr(judge, "forward", torch.inference_mode()(broken))
    result = detect(shapes, weights, **{**QUICK, "batch": IMAGES})
    assert (result.counts["images"], result.counts["errors"]) == (IMAGES - 2, 2)
    errors = shapes.execute("select item_id, stage, message from item_errors order by 1").fetchall()
    assert errors == [
        (1, "detect", "the model gave predictions that are no finite numbers"),
        (2, "detect", "the model gave features that are no finite numbers"),
    ]


KILLED = """
import os, sys
from nearsql.pipeline.detect import run
from nearsql.udfs.connection import connect

written = run._write
def write_and_die(current, detector, batch, spaces):
    if os.path.exists(sys.argv[3]):
        os.kill(os.getpid(), 9)
    written(current, detector, batch, spaces)
    open(sys.argv[3], "w").close()

run._write = write_and_die
run.detect(connect(sys.argv[1]), sys.argv[2], imgsz=160, batch=3, conf=0.05)
"""


def test_killed_and_run_again_gives_the_same_rows(
    shapes: dbapi.Connection, database: Path, weights: Path, tmp_path: Path
) -> None:
    arguments = [str(database), str(weights), str(tmp_path / "one batch is written")]
    done = subprocess.run(
        [sys.executable, "-c", KILLED, *arguments], capture_output=True, text=True
    )
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert shapes.execute("select count(*) from image_metrics").fetchone() == (3,)
    resumed = detect(shapes, weights, **QUICK)
    # The same run went on, and none of its rows is there twice.
    assert shapes.execute("select id, status from runs where kind = 'detect'").fetchall() == [
        (resumed.run_id, "finished")
    ]
    assert resumed.counts["images"] == IMAGES
    whole = connection.create(tmp_path / "whole.db")
    whole.execute("pragma foreign_keys = off")  # the items come without the run that brought them
    whole.execute("attach ? as killed", (str(database),))
    for table in ("items", "item_images", "annotations", "annotated_items"):
        whole.execute(f"insert into {table} select * from killed.{table}")
    whole.commit()
    whole.execute("detach killed")
    uninterrupted = detect(whole, weights, **QUICK)
    assert said(whole) == said(shapes)
    hashes = [
        one.execute("select result_sha256 from runs where id = ?", (run_id,)).fetchone()
        for one, run_id in ((whole, uninterrupted.run_id), (shapes, resumed.run_id))
    ]
    assert hashes[0] == hashes[1]
    assert resumed.run_id is not None
    assert replay(shapes, resumed.run_id).is_same
    whole.close()


def test_wrong_input_is_a_sentence(shapes: dbapi.Connection, weights: Path, tmp_path: Path) -> None:
    for options, words in (
        ({"imgsz": 100}, "--imgsz must be a multiple of 32"),
        ({"conf": 1.5}, "--conf must be from 0 to 1, not 1.5"),
        ({"batch": 0}, "--batch must be at least 1"),
        ({"max_det": 0}, "--max-det must be at least 1"),
        ({"conf": 0.5, "metrics_conf": 0.1}, "stores fewer predictions than the metrics count"),
        (
            {"collection": "none"},
            "the collection 'none' has no images, which a detector is for",
        ),
        ({"device": "cuda:77"}, "cuda"),
        ({"layers": ["99"]}, "has no layer '99'"),
    ):
        with pytest.raises(UserError, match=words):
            detect(shapes, weights, **{**QUICK, **options})
    with pytest.raises(UserError, match=r"nowhere\.pt: there is no such file"):
        detect(shapes, "nowhere.pt")
    empty = connection.create(tmp_path / "empty.db")
    with pytest.raises(UserError, match="run `nearsql ingest` first"):
        detect(empty, weights)
    empty.close()
