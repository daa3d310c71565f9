"""Ground truth from YOLO labels: what comes in, and what is said of mistakes."""

import json
import os
import shutil
from pathlib import Path
from typing import Any

import pytest
from labelled import END, YAML, image, problems, tree, truth
from PIL import Image
from pycocotools import mask as reference

from nearsql.pipeline import replay
from nearsql.pipeline.annotations import annotate
from nearsql.pipeline.console import UserError
from nearsql.pipeline.ingest import ingest_images
from nearsql.udfs import dbapi


def test_yolo_labels_become_ground_truth(db: dbapi.Connection, root: Path) -> None:
    before = tree(root)
    ingest_images(db, root)
    result = annotate(db, "pets", "yolo", root)
    assert truth(db) == {
        "0": [(0, "cat", 10.0, 5.0, 30.0, 15.0), (1, "dog", 8.0, 3.0, 12.0, 7.0)],
        "1": [(1, "dog", 4.0, 2.0, 36.0, 18.0)],
        "2": [],  # no label, but others in its folder have theirs
        "3": [],  # an empty label
    }
    assert result.counts == {
        "items": 4,
        "annotated": 4,
        "new": 4,
        "changed": 0,
        "unchanged": 0,
        "incomplete": 0,
        "unlabelled": 0,
        "background": 1,
        "empty": 1,
        "objects": 3,
        "classes": 2,
        "splits": 4,
        "errors": 0,
        "labels_without_image": 0,
        "in_several_splits": 0,
    }
    splits = db.execute(
        "select uri, value, l.source from item_labels l join items i on i.id = l.item_id"
        " where name = 'split'"
    ).fetchall()
    assert {(Path(uri).stem, value, source) for uri, value, source in splits} == {
        ("0", "train", "annotations"),
        ("1", "train", "annotations"),
        ("2", "train", "annotations"),
        ("3", "val", "annotations"),
    }
    assert db.execute("select * from classes").fetchall() == [
        ("pets", 0, "cat", None),
        ("pets", 1, "dog", None),
    ]
    ((polygons, mask, area),) = truth(db, "polygons_json, mask_json, area")["1"]
    assert json.loads(polygons) == [[4.0, 2.0, 36.0, 2.0, 36.0, 18.0]]
    (expected,) = reference.frPyObjects(json.loads(polygons), 20, 40)
    assert json.loads(mask) == {"size": [20, 40], "counts": expected["counts"].decode()}
    assert area == reference.area(expected)
    assert truth(db, "polygons_json, mask_json, area")["0"] == [
        (None, None, 200.0),
        (None, None, 16.0),
    ]
    kind, parameters, sha256 = db.execute(
        "select kind, parameters_json, result_sha256 from runs where id = ?", (result.run_id,)
    ).fetchone()
    assert kind == "annotate"
    assert json.loads(parameters) == {
        "collection": "pets",
        "source": str(root),
        "format": "yolo",
        "labels": None,
        "classes": None,
        "split": None,
    }
    assert len(sha256) == 64
    assert tree(root) == before


def test_a_label_with_a_mistake_leaves_its_image_without_truth(
    db: dbapi.Connection, root: Path
) -> None:
    bad = root / "labels" / "train" / "0.txt"
    bad.write_text("0 .5 .5 .5 .5\n5 .1 .1 .1 .1\n0 .1 .1 nan .1\n")
    ingest_images(db, root)
    result = annotate(db, "pets", "yolo", root)
    assert sorted(truth(db)) == ["1", "2", "3"]
    assert problems(db, result.run_id) == [
        (
            "0.png",
            "0.txt",
            "0.txt line 2: class 5 is not among the 2 classes with names" + END,
        ),
        ("0.png", "0.txt", "0.txt line 3: 'nan' is not a number"),
    ]
    # What is right in it is there to be looked at.
    kept = db.execute("select class_name, x_min from annotations where item_id = 1").fetchall()
    assert kept == [("cat", 10.0)]
    counts = result.counts
    assert (counts["incomplete"], counts["partial"], counts["annotated"]) == (1, 1, 3)
    assert counts["errors"] == 2
    assert replay.replay(db, result.run_id).is_same
    changes = db.execute("select id from annotations").fetchall()
    again = annotate(db, "pets", "yolo", root)
    assert again.counts["objects"] == 0
    assert db.execute("select id from annotations").fetchall() == changes
    # Mended, it counts; broken again, it does not.
    bad.write_text("0 .5 .5 .5 .5\n")
    mended = annotate(db, "pets", "yolo", root)
    assert (mended.counts["changed"], mended.counts["annotated"]) == (1, 4)
    assert truth(db)["0"] == [(0, "cat", 10.0, 5.0, 30.0, 15.0)]
    bad.write_bytes(b"\xff\xfe")
    broken = annotate(db, "pets", "yolo", root)
    assert broken.counts["incomplete"] == 1
    assert db.execute("select count(*) from annotations where item_id = 1").fetchone() == (0,)
    assert "0" not in truth(db)
    assert replay.replay(db, broken.run_id).is_same


def test_labels_that_cannot_be_read(
    db: dbapi.Connection, root: Path, tmp_path: Path, monkeypatch
) -> None:
    labels = root / "labels" / "train"
    for number, name in enumerate(("pipe", "folder", "large", "linked", "loop"), start=10):
        image(root / "images" / "train" / f"{name}.png", number)
    os.mkfifo(labels / "pipe.txt")
    (labels / "folder.txt").mkdir()
    with open(labels / "large.txt", "wb") as file:
        file.truncate(2**26)  # one long line, of which no more is read than a label may have
    (tmp_path / "outside.txt").write_text("0 .5 .5 .5 .5")
    (labels / "linked.txt").symlink_to(tmp_path / "outside.txt")
    (labels / "loop.txt").symlink_to(labels / "loop.txt")
    ingest_images(db, root)
    result = annotate(db, "pets", "yolo", root)
    said = {image: message for image, _, message in problems(db, result.run_id)}
    assert {image: message.split(": ")[1].split(";")[0] for image, message in said.items()} == {
        "pipe.png": "it is not a regular file",
        "folder.png": f"it leads out of {root}, or is no file",
        "large.png": "the file has more than 8,388,608 bytes",
        "linked.png": f"it leads out of {root}, or is no file",
        "loop.png": f"it leads out of {root}, or is no file",
    }
    assert sorted(truth(db)) == ["0", "1", "2", "3"]


def test_nobody_labelled_what_lies_in_a_folder_without_labels(
    db: dbapi.Connection, root: Path
) -> None:
    image(root / "images" / "test" / "9.png", 9)
    image(root / "more" / "8.png", 8)
    ingest_images(db, root)
    result = annotate(db, "pets", "yolo", root)
    assert sorted(truth(db)) == ["0", "1", "2", "3"]
    assert (result.counts["unlabelled"], result.counts["items"]) == (2, 6)
    assert result.counts["errors"] == 0


def test_labels_beside_the_images(db: dbapi.Connection, tmp_path: Path) -> None:
    root = tmp_path / "flat"
    for number in range(3):
        image(root / f"{number}.jpg", number)
    (root / "0.txt").write_text("4 .5 .5 .5 .5")
    (root / "1.txt").write_text("")
    (root / "classes.txt").write_text("a\nb\nc\nd\ne\n")
    (root / "notes.txt").write_text("nothing to see")
    ingest_images(db, root)
    result = annotate(db, "flat", "yolo", root)
    assert truth(db) == {"0": [(4, "e", 10.0, 5.0, 30.0, 15.0)], "1": [], "2": []}
    assert (result.counts["background"], result.counts["empty"]) == (1, 1)
    assert result.counts["labels_without_image"] == 1
    assert db.execute("select count(*) from item_labels").fetchone() == (0,)


@pytest.mark.parametrize("layout", ["same", "under images", "flat"])
def test_labels_in_a_folder_of_their_own(
    db: dbapi.Connection, root: Path, tmp_path: Path, layout: str
) -> None:
    elsewhere = tmp_path / "truth"
    start = {"same": "images/train/", "under images": "train/", "flat": ""}[layout]
    (elsewhere / start).mkdir(parents=True)
    (elsewhere / start / "1.txt").write_text("0 .5 .5 .5 .5")
    names = tmp_path / "some.names"
    names.write_text("bird")
    ingest_images(db, root)
    result = annotate(db, "pets", "yolo", root, labels=elsewhere, classes=names, split="golden")
    found = truth(db)
    assert found.pop("1") == [(0, "bird", 10.0, 5.0, 30.0, 15.0)]
    # The others are background where their own label would lie in the same folder.
    assert sorted(found) == (["0", "2", "3"] if layout == "flat" else ["0", "2"])
    splits = db.execute("select distinct value from item_labels where name = 'split'").fetchall()
    assert splits == [("golden",)]
    assert replay.replay(db, result.run_id).is_same


def test_two_images_of_one_name_have_no_flat_label(db: dbapi.Connection, tmp_path: Path) -> None:
    root, labels = tmp_path / "set", tmp_path / "labels"
    labels.mkdir()
    for name in ("a/1", "b/1", "b/2"):
        image(root / f"{name}.png", len(name) + ord(name[0]) + ord(name[2]))
    for number in (1, 2):
        (labels / f"{number}.txt").write_text("0 .5 .5 .5 .5")
    ingest_images(db, root)
    result = annotate(db, "set", "yolo", root, labels=labels)
    assert list(truth(db)) == ["2"]
    assert (result.counts["unlabelled"], result.counts["labels_without_image"]) == (2, 1)


def test_the_same_image_at_two_places_must_have_the_same_labels(
    db: dbapi.Connection, root: Path
) -> None:
    for name, text in (("0", "0 .5 .5 .5 .5\n1 .25 .25 .1 .2\n"), ("1", "0 .5 .5 .5 .5")):
        shutil.copy(
            root / "images" / "train" / f"{name}.png", root / "images" / "val" / f"x{name}.png"
        )
        (root / "labels" / "val" / f"x{name}.txt").write_text(text)
    ingest_images(db, root)
    result = annotate(db, "pets", "yolo", root)
    assert sorted(truth(db)) == ["0", "2", "3"]
    ((name, _, message),) = problems(db, result.run_id)
    assert name == "1.png"
    assert "at images/train/1.png and at images/val/x1.png, and their labels differ" in message


def test_pixels_are_those_of_the_image_as_shown(db: dbapi.Connection, tmp_path: Path) -> None:
    root = tmp_path / "turned"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown, it is 20 wide and 40 high
    image(root / "a.jpg", 1, (40, 20), exif=exif)
    (root / "a.txt").write_text("0 .5 .25 .5 .5\n")
    ingest_images(db, root)
    annotate(db, "turned", "yolo", root)
    assert truth(db) == {"a": [(0, None, 5.0, 0.0, 15.0, 20.0)]}


def test_only_the_images_of_the_folder_are_touched(
    db: dbapi.Connection, root: Path, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    image(other / "o.png", 50)
    (other / "o.txt").write_text("0 .5 .5 .5 .5")
    ingest_images(db, root)
    ingest_images(db, other, collection="pets")
    annotate(db, "pets", "yolo", other)
    assert list(truth(db)) == ["o"]
    assert annotate(db, "pets", "yolo", root).counts["items"] == 4
    assert sorted(truth(db)) == ["0", "1", "2", "3", "o"]


def test_a_split_that_somebody_else_gave_is_kept(db: dbapi.Connection, root: Path) -> None:
    ingest_images(db, root)
    db.execute("insert into item_labels values (1, 'split', 'mine', 'a person')")
    db.commit()
    annotate(db, "pets", "yolo", root)
    annotate(db, "pets", "yolo", root, split="other")
    values = db.execute("select value from item_labels order by item_id").fetchall()
    assert values == [("mine",), ("other",), ("other",), ("other",)]


def test_what_is_wrong_with_the_yaml_file_is_told(db: dbapi.Connection, root: Path) -> None:
    (root / "data.yaml").write_text(YAML + "test: ../../elsewhere\n")
    ingest_images(db, root)
    result = annotate(db, "pets", "yolo", root)
    ((image, name, message),) = problems(db, result.run_id)
    assert (image, name) == (None, "data.yaml")
    assert "test: '../../elsewhere' leads out of" in message
    assert result.counts["annotated"] == 4


def test_what_cannot_begin(db: dbapi.Connection, root: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(UserError, match=r"no images from .*: ingest them first"):
        annotate(db, "pets", "yolo", root)
    ingest_images(db, root)
    image(tmp_path / "bare" / "images" / "a.png", 1)
    for arguments, sentence in (
        ({"folder": tmp_path / "gone"}, "there is no folder"),
        ({"folder": tmp_path / "bare"}, r"has no label files \(\.txt\)"),
        ({"labels": tmp_path / "gone"}, "is no folder: for yolo"),
        ({"labels": root / "data.yaml"}, "is no folder: for yolo"),
        ({"labels": tmp_path / "empty"}, "has no label files"),
        ({"classes": tmp_path / "gone.yaml"}, r"gone\.yaml: the file cannot be opened"),
        ({"collection": "others"}, "the collection 'others' has no images"),
        ({"format": "voc"}, "yolo or coco, not 'voc'"),
        ({"format": "coco"}, "no JSON file"),
        ({"format": "coco", "classes": root / "data.yaml"}, "--classes is for yolo"),
        ({"format": "coco", "labels": root / "data.yaml"}, "cannot be read as JSON"),
        ({"format": "coco", "labels": root}, "not a regular file"),
    ):
        values: dict[str, Any] = {"collection": "pets", "format": "yolo", "folder": root}
        values |= arguments
        with pytest.raises(UserError, match=sentence):
            annotate(
                db, values.pop("collection"), values.pop("format"), values.pop("folder"), **values
            )
    shutil.move(root / "labels", root / "other")
    with pytest.raises(UserError, match="none of the 3 text files"):
        annotate(db, "pets", "yolo", root)
    assert db.execute("select count(*) from runs where kind = 'annotate'").fetchone() == (0,)
