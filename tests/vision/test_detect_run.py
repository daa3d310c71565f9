"""The detect run: what it writes, what it leaves to the next one, and how it is replayed."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from detectors import random_image, save_detector
from shapes import BOX, CORNER, IMAGES, QUICK, add_images, annotate, said

from nearsql.pipeline import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.detect.check import check_vision
from nearsql.pipeline.detect.forward import forward
from nearsql.pipeline.detect.letterbox import letterbox
from nearsql.pipeline.detect.run import detect
from nearsql.pipeline.detect.weights import load_detector
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import dbapi

pytestmark = pytest.mark.usefixtures("one_thread")


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
