"""The detect run: what it writes, what it leaves to the next one, and that nothing is lost or doubled."""

import io
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from detectors import random_image, save_detector
from PIL import Image

from nearsql.pipeline import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.check import check_vision
from nearsql.pipeline.detect.forward import forward
from nearsql.pipeline.detect.letterbox import letterbox
from nearsql.pipeline.detect.run import detect
from nearsql.pipeline.detect.weights import load_detector
from nearsql.pipeline.ingest import ingest_image_bytes, ingest_images
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import connection, dbapi

IMAGES = 7
QUICK = {"imgsz": 160, "batch": 3, "conf": 0.05}

# Everything that a run says, without the ids of rows.
SAID = {
    "predictions": "item_id, class_id, class_name, confidence, x_min, y_min, x_max, y_max, mask_json,"
    " matched_annotation_id, iou",
    "losses": "item_id, component, value, reason, normaliser",
    "image_metrics": "item_id, n_gt, n_pred, tp, fp, fn, mean_iou, mean_iou_gt, mean_conf, hit_freq,"
    " dice_score, category_distribution_json, flag_cat, flag_supercat, truth_sha256",
}


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return save_detector(tmp_path_factory.mktemp("weights") / "small.pt", "yolov8n-seg")


def png(seed: int) -> bytes:
    buffer = io.BytesIO()
    Image.fromarray(random_image(seed)).save(buffer, "PNG")
    return buffer.getvalue()


def add_images(db: dbapi.Connection, seeds: range, collection: str = "shapes") -> list[int]:
    rows = [(f"memory:{seed}", png(seed), {}, {}) for seed in seeds]
    ingest_image_bytes(db, rows, collection=collection, source="test")
    return [i for (i,) in db.execute("select id from items where collection = ?", (collection,))]


def annotate(db: dbapi.Connection, item_id: int, *objects: tuple[str, list[float]]) -> None:
    """Gives an image ground truth: (class name, outline) each."""
    db.execute("delete from annotations where item_id = ?", (item_id,))
    for name, outline in objects:
        xs, ys = outline[0::2], outline[1::2]
        db.execute(
            "insert into annotations (item_id, class_id, class_name, x_min, y_min, x_max, y_max,"
            " polygons_json, source) values (?, 0, ?, ?, ?, ?, ?, ?, 'test')",
            (item_id, name, min(xs), min(ys), max(xs), max(ys), json.dumps([outline])),
        )
    sha256 = f"{hash((item_id, str(objects))) & (2**64 - 1):064x}"
    db.execute(
        "insert into annotated_items (item_id, source, truth_sha256) values (?, 'test', ?)"
        " on conflict (item_id) do update set truth_sha256 = excluded.truth_sha256",
        (item_id, sha256),
    )
    db.commit()


BOX = [40.0, 30.0, 200.0, 30.0, 200.0, 180.0, 40.0, 180.0]
CORNER = [0.0, 0.0, 90.0, 0.0, 0.0, 90.0]


@pytest.fixture
def shapes(db: dbapi.Connection) -> dbapi.Connection:
    """Seven images: 1 to 5 with objects, 6 known to be empty, 7 not annotated."""
    add_images(db, range(IMAGES))
    for item_id in range(1, 6):
        annotate(db, item_id, ("class 1", BOX), ("class 3", CORNER))
    annotate(db, 6)
    return db


def said(db: dbapi.Connection, run_id: int | None = None) -> dict[str, list[tuple[object, ...]]]:
    """All rows that detect runs (or one) wrote, by table, and the vectors by space."""
    where = "" if run_id is None else f" where run_id = {run_id}"
    rows = {
        table: db.execute(f"select {columns} from {table}{where} order by 1, 2, 3, 4").fetchall()
        for table, columns in SAID.items()
    }
    rows["vectors"] = db.execute(
        "select s.name, v.item_id, v.vector from vectors v join spaces s on s.id = v.space_id"
        " order by 1, 2"
    ).fetchall()
    return rows


def test_one_run_fills_every_table(shapes: dbapi.Connection, weights: Path) -> None:
    result = detect(shapes, weights, feature_maps=["p5"], layers=["9"], **QUICK)
    assert result.run_id is not None
    assert result.spaces == [
        *("small/gap/p3", "small/gap/p4", "small/gap/p5", "small/gap/9", "small/metrics"),
    ]
    found = said(shapes)
    assert {item for item, *_ in found["image_metrics"]} == set(range(1, IMAGES + 1))
    assert result.counts["predictions"] == len(found["predictions"]) > IMAGES
    assert result.counts["annotated"] == 6
    losses = {(item, component): (value, why) for item, component, value, why, _ in found["losses"]}
    assert {component for _, component in losses} == {"box", "seg", "cls", "dfl"}
    assert all(losses[1, c][0] > 0 for c in ("box", "seg", "cls", "dfl"))
    assert losses[6, "box"] == (None, "the image has no objects")
    assert losses[6, "cls"][0] > 0
    assert losses[7, "cls"] == (None, "nobody annotated this image")
    metrics = {item: rest for item, *rest in found["image_metrics"]}
    assert metrics[1][0] == 2
    assert metrics[6][:1] == [0]
    assert metrics[7][0] is None
    assert metrics[7][1] > 0 or metrics[7][5] is None
    shape, dtype, data = shapes.execute(
        "select shape_json, dtype, data from feature_maps where item_id = 3 and layer = 'p5'"
    ).fetchone()
    assert (json.loads(shape), dtype) == ([256, 5, 5], "float16")
    # The stored average is that of the stored map.
    pooled = np.frombuffer(data, "<f2").reshape(256, 25).astype("f4").mean(1)
    (vector,) = shapes.execute(
        "select vector from vectors v join spaces s on s.id = v.space_id"
        " where s.name = 'small/gap/p5' and item_id = 3"
    ).fetchone()
    np.testing.assert_allclose(np.frombuffer(vector, "<f4"), pooled, rtol=2e-3, atol=2e-3)
    kinds = dict(shapes.execute("select name, kind from spaces").fetchall())
    assert kinds["small/metrics"] == "metric"
    assert kinds["small/gap/9"] == "feature"
    # 7 has no truth, and no place among those that have.
    ids = [i for (i,) in shapes.execute("select id from knn('small/metrics', 1, 10)")]
    assert sorted(ids) == [2, 3, 4, 5, 6]
    family, licence, sha256 = shapes.execute(
        "select family, licence, checkpoint_sha256 from models where name = 'small'"
    ).fetchone()
    assert (family, licence, len(sha256)) == ("yolo", "AGPL-3.0", 64)


def test_rows_are_what_one_forward_pass_alone_says(shapes: dbapi.Connection, weights: Path) -> None:
    detect(shapes, weights, **QUICK)
    detector = load_detector(weights)
    for item_id in (1, 7):
        square, _ = letterbox(random_image(item_id - 1), 160)
        outputs = forward(detector, [square])
        for layer in ("p3", "p4", "p5"):
            (stored,) = shapes.execute(
                "select vector from vectors v join spaces s on s.id = v.space_id"
                " where s.name = ? and item_id = ?",
                (f"small/gap/{layer}", item_id),
            ).fetchone()
            alone = outputs.features[layer].mean((2, 3))[0].numpy()
            np.testing.assert_allclose(np.frombuffer(stored, "<f4"), alone, rtol=1e-4, atol=1e-5)


def test_a_second_run_does_nothing_and_new_images_are_added(
    shapes: dbapi.Connection, weights: Path
) -> None:
    first = detect(shapes, weights, **QUICK)
    before = said(shapes)
    again = detect(shapes, weights, **QUICK)
    assert (again.run_id, again.counts) == (None, {"already": IMAGES})
    assert said(shapes) == before
    add_images(shapes, range(IMAGES, IMAGES + 2))
    more = detect(shapes, weights, **QUICK)
    assert more.counts["images"] == 2
    assert more.counts["already"] == IMAGES
    assert said(shapes, first.run_id)["predictions"] == before["predictions"]


def test_changed_annotations_are_judged_again(shapes: dbapi.Connection, weights: Path) -> None:
    detect(shapes, weights, **QUICK)
    annotate(shapes, 2, ("class 0", BOX))
    annotate(shapes, 7, ("class 4", CORNER))
    again = detect(shapes, weights, **QUICK)
    assert again.run_id is not None
    assert [item for item, *_ in said(shapes, again.run_id)["image_metrics"]] == [2, 7]
    ids = [i for (i,) in shapes.execute("select id from knn('small/metrics', 1, 10)")]
    assert sorted(ids) == [2, 3, 4, 5, 6, 7]


def test_other_settings_are_another_run(shapes: dbapi.Connection, weights: Path) -> None:
    first = detect(shapes, weights, **QUICK)
    second = detect(shapes, weights, **{**QUICK, "conf": 0.5})
    assert second.counts["images"] == IMAGES
    assert second.counts["predictions"] < first.counts["predictions"]
    with pytest.raises(UserError, match=r"was made with --imgsz 160.*--imgsz 192.*--name"):
        detect(shapes, weights, **{**QUICK, "imgsz": 192})
    named = detect(shapes, weights, name="larger", **{**QUICK, "imgsz": 192})
    assert named.spaces[0] == "larger/gap/p3"


def test_replay_and_check(shapes: dbapi.Connection, weights: Path) -> None:
    result = detect(shapes, weights, **QUICK)
    assert result.run_id is not None
    assert replay(shapes, result.run_id).is_same
    findings = check_vision(shapes, sample=4)
    assert {f.check: (f.checked > 0, f.wrong) for f in findings} == {
        f.check: (True, 0) for f in findings
    }
    assert len(findings) == 7
    # Whoever tampers with a number is found out.
    shapes.execute("update losses set value = value * 1.01 where component = 'cls'")
    shapes.execute("update predictions set x_min = x_min - 3 where x_min > 3")
    shapes.commit()
    wrong = {f.check for f in check_vision(shapes, sample=IMAGES) if f.wrong}
    assert wrong >= {"rows as the run wrote them", "losses", "boxes of predictions, in pixels"}
    assert not wrong & {"features, as cosine distance", "images that can be read"}
    assert replay(
        shapes, result.run_id
    ).is_same  # as recorded: it looks at the run, not at the rows
    annotate(shapes, 1, ("class 2", BOX))
    with pytest.raises(CannotReplay, match="annotations of 1 images that have changed"):
        replay(shapes, result.run_id)


def test_weights_that_moved_or_changed(shapes: dbapi.Connection, tmp_path: Path) -> None:
    path = save_detector(tmp_path / "mine.pt", "yolo11n", seed=3)
    result = detect(shapes, path, **QUICK)
    assert result.run_id is not None
    save_detector(path, "yolo11n", seed=4)
    with pytest.raises(UserError, match=r"another model called 'mine'.*--name"):
        detect(shapes, path, **QUICK)
    with pytest.raises(CannotReplay, match="another checkpoint"):
        replay(shapes, result.run_id)
    untouched, recomputing = check_vision(shapes)
    assert (untouched.wrong, recomputing.wrong) == (0, 1)
    assert "another checkpoint" in (recomputing.detail or "")


def test_unknown_classes_are_told_and_left_out(shapes: dbapi.Connection, weights: Path) -> None:
    annotate(shapes, 1, ("class 1", BOX), ("unicorn", CORNER), ("unicorn", BOX))
    result = detect(shapes, weights, **QUICK)
    (message,) = shapes.execute(
        "select message from item_errors where item_id = 1 and stage = 'truth'"
    ).fetchone()
    assert message.startswith(
        "2 of its objects are of classes that the model does not have (unicorn)"
    )
    assert said(shapes)["image_metrics"][0][1] == 1
    assert result.counts["images"] == IMAGES
    # It was judged: it is no work for the next run.
    assert detect(shapes, weights, **QUICK).run_id is None


def test_without_names_the_number_is_the_class(shapes: dbapi.Connection, weights: Path) -> None:
    shapes.execute("update annotations set class_name = null, class_id = 4 where item_id = 1")
    shapes.execute("update annotations set class_name = null, class_id = 5 where item_id = 2")
    shapes.commit()
    detect(shapes, weights, **QUICK)
    rows = {row[0]: row for row in said(shapes)["image_metrics"]}
    assert rows[1][1] == 2
    assert rows[2][1] == 0  # the model's classes are 0 to 4
    message = shapes.execute("select message from item_errors where item_id = 2").fetchone()[0]
    assert "number 5" in message


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
    add_images(other, range(IMAGES))
    for item_id in range(1, 6):
        annotate(other, item_id, ("class 1", BOX), ("class 3", CORNER))
    annotate(other, 6)
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


def test_the_summary_says_that_nothing_is_annotated(
    db: dbapi.Connection, database: Path, weights: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    add_images(db, range(2))
    with pytest.raises(SystemExit) as ended:
        cli.main(["detect", str(database), "--weights", str(weights), "--imgsz", "160"])
    assert ended.value.code == 0
    said_so = "none, so no losses and metrics: see nearsql ingest --annotations"
    assert said_so in capsys.readouterr().err


def test_the_command(shapes: dbapi.Connection, database: Path, weights: Path) -> None:
    nearsql = [sys.executable, "-c", "from nearsql.pipeline.cli import main; main()"]
    options = ["--weights", str(weights), "--imgsz", "160", "--feature-maps", "--layers", "9"]
    done = subprocess.run([*nearsql, "detect", database, *options], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert done.stdout == ""
    assert "small/metrics" in done.stderr
    assert "% the model" in done.stderr
    layers = shapes.execute("select distinct layer from feature_maps order by 1").fetchall()
    assert layers == [("p3",), ("p4",), ("p5",)]
    hint = done.stderr.splitlines()[-1].partition("next: nearsql sql ")[2]
    assert "knn('small/metrics'" in hint
    # Within this process, which has torch already.
    words = ["check", str(database), "--vision", "--format", "json"]
    checked = CliRunner().invoke(cli.cli, words)
    assert checked.exit_code == 0, checked.output
    assert all(row["wrong"] == 0 for row in json.loads(checked.stdout))


@pytest.fixture(autouse=True)
def one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    yield
    torch.set_num_threads(before)
