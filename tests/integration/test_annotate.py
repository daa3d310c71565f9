"""Ground truth from YOLO and COCO labels: what comes in, what is said, and that again is harmless."""

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pycocotools import mask as reference

from nearsql.pipeline import replay
from nearsql.pipeline.annotations import annotate, writer
from nearsql.pipeline.cli import main
from nearsql.pipeline.console import UserError
from nearsql.pipeline.ingest import ingest_images
from nearsql.udfs import connection, dbapi

YAML = "path: .\ntrain: images/train\nval: images/val\nnames: [cat, dog]\n"

END = "; the image counts as not annotated"  # after the first mistake of each image

Nearsql = Callable[..., tuple[int, str]]


def image(path: Path, seed: int, size: tuple[int, int] = (40, 20), **options: Any) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    values = np.random.default_rng(seed).integers(0, 256, (size[1], size[0], 3), dtype=np.uint8)
    Image.fromarray(values).save(path, **options)
    return path


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Four images in two splits; train/2 has no label."""
    folder = tmp_path / "pets"
    for number in range(3):
        image(folder / "images" / "train" / f"{number}.png", number)
    image(folder / "images" / "val" / "3.png", 3)
    (folder / "data.yaml").write_text(YAML)
    texts = {
        "train/0": "0 .5 .5 .5 .5\n1 .25 .25 .1 .2\n",
        "train/1": "1 .1 .1 .9 .1 .9 .9\n",
        "val/3": "",
    }
    for name, text in texts.items():
        path = folder / "labels" / f"{name}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
    return folder


def tree(folder: Path) -> dict[str, tuple[Any, ...]]:
    """All that can be seen of a folder, times of change included."""
    facts = {}
    for path in sorted(folder.rglob("*")):
        data = path.read_bytes() if path.is_file() else None
        facts[str(path)] = (data, path.lstat().st_mtime_ns, path.lstat().st_mode)
    return facts


def truth(db: dbapi.Connection, columns: str = "") -> dict[str, list[tuple[Any, ...]]]:
    """The annotations of each annotated image, by its name."""
    columns = columns or "class_id, class_name, x_min, y_min, x_max, y_max"
    found: dict[str, list[tuple[Any, ...]]] = {
        Path(uri).stem: []
        for (uri,) in db.execute(
            "select uri from annotated_items t join items i on i.id = t.item_id order by i.id"
        )
    }
    for uri, *row in db.execute(
        f"select uri, {columns} from annotations a join items i on i.id = a.item_id"
        " where item_id in (select item_id from annotated_items) order by a.id"
    ):
        found[Path(uri).stem].append(tuple(row))
    return found


def everything(db: dbapi.Connection) -> dict[str, list[tuple[Any, ...]]]:
    """All that annotating leaves, but for ids, runs and times."""
    return {
        "annotations": db.execute(
            "select i.sha256, class_id, class_name, x_min, y_min, x_max, y_max, mask_json, area,"
            " is_crowd, source, polygons_json from annotations a join items i on i.id = a.item_id"
            " order by i.sequence_number, a.id"
        ).fetchall(),
        "annotated": db.execute(
            "select i.sha256, source, truth_sha256 from annotated_items t"
            " join items i on i.id = t.item_id order by i.sequence_number"
        ).fetchall(),
        "labels": db.execute(
            "select i.sha256, name, value, source from item_labels l"
            " join items i on i.id = l.item_id order by i.sequence_number, name"
        ).fetchall(),
        "classes": db.execute("select * from classes order by collection, class_id").fetchall(),
    }


def problems(db: dbapi.Connection, run_id: int) -> list[tuple[str | None, str, str]]:
    """(name of the image, name of the label file, sentence) of each row of item_errors."""
    return [
        (Path(image).name if image else None, Path(uri).name, message)
        for image, uri, message in db.execute(
            "select i.uri, e.uri, message from item_errors e left join items i on i.id = e.item_id"
            " where e.run_id = ? and stage = 'annotation' order by e.id",
            (run_id,),
        )
    ]


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


def test_again_does_no_work_and_a_changed_label_replaces_its_truth(
    db: dbapi.Connection, root: Path
) -> None:
    ingest_images(db, root)
    first = annotate(db, "pets", "yolo", root)
    before, ids = everything(db), db.execute("select id, run_id from annotations").fetchall()
    changes = db.total_changes
    again = annotate(db, "pets", "yolo", root)
    assert everything(db) == before
    assert db.execute("select id, run_id from annotations").fetchall() == ids
    assert (again.counts["unchanged"], again.counts["new"], again.counts["objects"]) == (4, 0, 0)
    assert db.total_changes - changes < 10  # the run's own rows

    (root / "labels" / "train" / "0.txt").write_text("1 .25 .25 .1 .2\n0 .5 .5 .5 .5\n")
    assert annotate(db, "pets", "yolo", root).counts["unchanged"] == 4  # in another order
    (root / "labels" / "train" / "0.txt").write_text("1 .25 .25 .1 .2\n")
    (root / "labels" / "train" / "1.txt").unlink()
    (root / "labels" / "train" / "2.txt").write_text("0 .5 .5 1 1")
    third = annotate(db, "pets", "yolo", root)
    assert (third.counts["changed"], third.counts["unchanged"]) == (3, 1)
    assert truth(db) == {
        "0": [(1, "dog", 8.0, 3.0, 12.0, 7.0)],
        "1": [],
        "2": [(0, "cat", 0.0, 0.0, 40.0, 20.0)],
        "3": [],
    }
    hashes = dict(db.execute("select item_id, truth_sha256 from annotated_items").fetchall())
    assert hashes[2] == hashes[4] != hashes[1]
    with pytest.raises(replay.CannotReplay, match="of the 4 items whose ground truth run"):
        replay.replay(db, first.run_id)
    assert replay.replay(db, third.run_id).is_same
    # Other names are another truth.
    (root / "data.yaml").write_text(YAML.replace("cat", "puss"))
    assert annotate(db, "pets", "yolo", root).counts["changed"] == 1
    assert truth(db)["2"][0][1] == "puss"
    assert db.execute("select name from classes where class_id = 0").fetchone() == ("puss",)


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


def test_replay_reads_the_labels_again(db: dbapi.Connection, root: Path) -> None:
    ingest_images(db, root)
    result = annotate(db, "pets", "yolo", root)
    assert replay.replay(db, result.run_id).is_same
    (root / "labels" / "train" / "1.txt").write_text("0 .5 .5 .5 .5")
    assert not replay.replay(db, result.run_id).is_same
    (root / "labels" / "train" / "1.txt").unlink()
    with pytest.raises(replay.CannotReplay, match=r"labels of images/train/1\.png.* are gone"):
        replay.replay(db, result.run_id)
    shutil.rmtree(root / "labels")
    with pytest.raises(replay.CannotReplay, match="are gone"):
        replay.replay(db, result.run_id)
    db.execute("delete from items where id = 1")
    db.commit()
    with pytest.raises(replay.CannotReplay, match="items were deleted"):
        replay.replay(db, result.run_id)


def coco(root: Path, **changes: Any) -> dict[str, Any]:
    """A COCO file for the images of `root`: image 2 is not in it, image 3 is empty."""
    values = np.zeros((20, 40), np.uint8)
    values[5:9, 10:30] = 1
    counts = reference.encode(np.asfortranarray(values))["counts"].decode()
    document = {
        "info": {"year": 2017},
        "annotations": [
            {"id": 1, "image_id": 100, "category_id": 18, "bbox": [1, 2, 3.5, 4], "iscrowd": 0},
            {
                "id": 2,
                "image_id": 101,
                "category_id": 18,
                "bbox": [4, 2, 32, 16],
                "iscrowd": 0,
                "segmentation": [[4, 2, 36, 2, 36, 18], [4, 10, 8, 10, 8, 18]],
            },
            {
                "id": 3,
                "image_id": 101,
                "category_id": 90,
                "bbox": [10, 5, 20, 4],
                "iscrowd": 1,
                "segmentation": {"size": [20, 40], "counts": counts},
            },
        ],
        "images": [
            {"id": 100, "file_name": "images/train/0.png", "width": 40, "height": 20},
            {"id": 101, "file_name": "1.png", "width": 40, "height": 20},
            {"id": 103, "file_name": "3.png", "width": 40, "height": 20},
            {"id": 104, "file_name": "nowhere.png", "width": 40, "height": 20},
        ],
        "categories": [
            {"id": 18, "name": "dog", "supercategory": "animal"},
            {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
        ],
    }
    document |= changes
    path = root / "annotations" / "instances_val2017.json"
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(document))
    return document


def test_a_coco_file_becomes_ground_truth(db: dbapi.Connection, root: Path) -> None:
    document = coco(root)
    before = tree(root)
    ingest_images(db, root)
    result = annotate(db, "pets", "coco", root)
    assert truth(db) == {
        "0": [(18, "dog", 1.0, 2.0, 4.5, 6.0)],
        "1": [(18, "dog", 4.0, 2.0, 36.0, 18.0), (90, "toothbrush", 10.0, 5.0, 30.0, 9.0)],
        "3": [],
    }
    two, crowd = truth(db, "polygons_json, mask_json, area, is_crowd")["1"]
    polygons = document["annotations"][1]["segmentation"]
    assert json.loads(two[0]) == polygons
    expected = reference.merge(reference.frPyObjects(polygons, 20, 40))
    assert json.loads(two[1])["counts"] == expected["counts"].decode()
    assert two[2:] == (reference.area(expected), 0)
    assert crowd[0] is None
    assert json.loads(crowd[1]) == document["annotations"][2]["segmentation"]
    assert crowd[2:] == (80.0, 1)
    assert db.execute("select * from classes").fetchall() == [
        ("pets", 18, "dog", "animal"),
        ("pets", 90, "toothbrush", "indoor"),
    ]
    assert result.counts == {
        "items": 4,
        "annotated": 3,
        "new": 3,
        "changed": 0,
        "unchanged": 0,
        "incomplete": 0,
        "unlabelled": 1,
        "empty": 1,
        "objects": 3,
        "classes": 2,
        "splits": 3,
        "errors": 0,
        "labels_without_image": 1,
        "ambiguous_images": 0,
    }
    values = db.execute("select item_id, value from item_labels order by item_id").fetchall()
    assert values == [(1, "val2017"), (2, "val2017"), (4, "val2017")]
    assert replay.replay(db, result.run_id).is_same
    assert annotate(db, "pets", "coco", root).counts["unchanged"] == 3
    assert tree(root) == before


def test_mistakes_in_a_coco_file(db: dbapi.Connection, root: Path) -> None:
    one = {"category_id": 18, "bbox": [1, 2, 3, 4]}
    coco(
        root,
        annotations=[
            {"id": 1, "image_id": 100, **one},
            {"id": 1, "image_id": 100, **one},  # the very same
            {"id": 2, "image_id": 100, **one},  # another of the same kind and place
            {"id": 3, "image_id": 101, **one},
            {"id": 4, "image_id": 101, **one, "bbox": [1, 2, 300, 4]},
            {"id": 5, "image_id": 999, **one},
            {"id": 6, "image_id": None, **one},
            "nonsense",
        ],
        images=[
            {"id": 100, "file_name": "0.png"},
            {"id": 101, "file_name": "1.png", "width": 40, "height": 20},
            {"id": 102, "file_name": "2.png", "width": 20, "height": 40},
            {"id": 103, "file_name": "3.png", "width": 40, "height": 20},
            {"id": 104, "file_name": "images/val/3.png", "width": 40, "height": 20},
            {"id": 104, "file_name": "3.png"},
            {"id": 105},
        ],
        categories=[{"id": 18, "name": "dog"}, {"id": 18, "name": "cat"}, {"name": "cow"}],
    )
    ingest_images(db, root)
    result = annotate(db, "pets", "coco", root)
    assert [row[0] for row in truth(db)["0"]] == [18, 18]
    assert list(truth(db)) == ["0"]
    file = "instances_val2017.json"
    assert problems(db, result.run_id) == [
        (
            "1.png",
            file,
            f"{file}: annotation 4 of image 101: its bbox reaches 301 on a side of 40 pixels{END}",
        ),
        (
            "2.png",
            file,
            f"{file}: images/train/2.png is 20 x 40 pixels there, and the image itself, as shown, 40 x 20"
            + END,
        ),
        ("3.png", file, f"{file}: images/val/3.png is 2 images: 103, 104{END}"),
        (None, file, f"{file}: annotations[6]: its image_id is null, not a whole number"),
        (None, file, f"{file}: annotations[7]: it is not an object"),
        (None, file, f"{file}: images[5]: its id 104 is that of another image, too"),
        (None, file, f"{file}: images[6]: its file_name is null, not a text"),
        (None, file, f"{file}: categories[1]: its id 18 is that of another category, too"),
        (None, file, f"{file}: categories[2]: its id is null, not a whole number from 0 on"),
        (None, file, f"{file}: 1 annotation of image 999, which is not among its images"),
    ]
    counts = result.counts
    assert (counts["duplicates"], counts["incomplete"], counts["partial"]) == (1, 3, 1)


def test_a_base_name_must_be_that_of_one_image(db: dbapi.Connection, root: Path) -> None:
    image(root / "images" / "val" / "0.png", 70)
    coco(
        root,
        annotations=[],
        images=[
            {"id": 1, "file_name": "0.png"},
            {"id": 2, "file_name": "val/0.png"},
            {"id": 3, "file_name": "elsewhere\\3.png"},
            {"id": 4, "file_name": "../../etc/passwd"},
        ],
    )
    ingest_images(db, root)
    result = annotate(db, "pets", "coco", root)
    ((_, _, message),) = problems(db, result.run_id)
    assert message == (
        "instances_val2017.json: image 1, '0.png', may be each of 2:"
        " images/train/0.png, images/val/0.png"
    )
    uris = db.execute(
        "select uri from annotated_items t join items i on i.id = t.item_id order by uri"
    ).fetchall()
    assert [Path(uri).relative_to(root).as_posix() for (uri,) in uris] == [
        "images/val/0.png",
        "images/val/3.png",
    ]
    assert result.counts["ambiguous_images"] == 1


@pytest.mark.parametrize(
    ("changes", "sentence"),
    [
        ({"images": []}, "it has no `images`"),
        ({"images": {}}, "it has no `images`"),
        ({"images": [{"id": 1}, 2]}, r"images\[0\]: its file_name is null"),
        ({"annotations": None}, "it has no `annotations`"),
        ({"categories": []}, "it has no `categories`"),
        ({"images": [{"id": 1, "file_name": "x.png"}]}, "none of the 1 images .* 'x.png'"),
    ],
)
def test_what_is_no_coco_file(db: dbapi.Connection, root: Path, changes, sentence: str) -> None:
    coco(root, **changes)
    ingest_images(db, root)
    with pytest.raises(UserError, match=sentence):
        annotate(db, "pets", "coco", root)


def test_which_json_file_is_meant(db: dbapi.Connection, root: Path, tmp_path: Path) -> None:
    coco(root)
    ingest_images(db, root)
    folder = root / "annotations"
    (folder / "captions_val2017.json").write_text("{}")
    assert annotate(db, "pets", "coco", root).counts["annotated"] == 3
    shutil.copy(folder / "instances_val2017.json", folder / "instances_train2017.json")
    with pytest.raises(UserError, match=r"has 3 JSON files .*: give the COCO file by --labels"):
        annotate(db, "pets", "coco", root)
    labels = shutil.copy(folder / "instances_val2017.json", tmp_path / "mine.json")
    shutil.rmtree(folder)
    folder.symlink_to(tmp_path)  # out of the folder: not looked into
    with pytest.raises(UserError, match="has no JSON file"):
        annotate(db, "pets", "coco", root)
    # The file's name tells no split; the folders' names do.
    db.execute("delete from item_labels")
    db.commit()
    assert annotate(db, "pets", "coco", root, labels=labels).counts["unchanged"] == 3
    values = db.execute("select value from item_labels order by item_id").fetchall()
    assert values == [("train",), ("train",), ("val",)]


def test_one_number_never_means_two_classes(db: dbapi.Connection, root: Path) -> None:
    coco(root, categories=[{"id": 1, "name": "person"}, {"id": 18, "name": "dog"}])
    ingest_images(db, root)
    annotate(db, "pets", "yolo", root)
    with pytest.raises(UserError, match="class 1 of the collection 'pets' is 'dog' in its yolo"):
        annotate(db, "pets", "coco", root)


def test_a_round_trip_through_coco(db: dbapi.Connection, root: Path, tmp_path: Path) -> None:
    """A COCO file made of the rows of YOLO labels gives the same rows in another collection."""
    ingest_images(db, root)
    annotate(db, "pets", "yolo", root)
    path = tmp_path / "export.json"
    export_coco(db, "pets", path)
    ingest_images(db, root, collection="again")
    annotate(db, "again", "coco", root, labels=path)
    assert_same_truth(db, "pets", "again")


def export_coco(db: dbapi.Connection, collection: str, path: Path) -> None:
    """Writes a collection's ground truth as a COCO file."""
    document: dict[str, list[dict[str, Any]]] = {"images": [], "annotations": [], "categories": []}
    for class_id, name in db.execute(
        "select class_id, name from classes where collection = ?", (collection,)
    ):
        document["categories"].append({"id": class_id, "name": name})
    for item_id, uri, width, height in db.execute(
        "select id, uri, width, height from items where collection = ?"
        " and id in (select item_id from annotated_items)",
        (collection,),
    ):
        document["images"].append(
            {"id": item_id, "file_name": Path(uri).name, "width": width, "height": height}
        )
    for row_id, item_id, class_id, x_min, y_min, x_max, y_max, polygons, area in db.execute(
        "select a.id, item_id, class_id, x_min, y_min, x_max, y_max, polygons_json, area"
        " from annotations a join items i on i.id = a.item_id where collection = ? order by a.id desc",
        (collection,),
    ):
        document["annotations"].append(
            {
                "id": row_id,
                "image_id": item_id,
                "category_id": class_id,
                "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                "segmentation": json.loads(polygons) if polygons else [],
                "area": area,
                "iscrowd": 0,
            }
        )
    path.write_text(json.dumps(document))


def assert_same_truth(db: dbapi.Connection, one: str, other: str) -> None:
    """All columns are the same, the boxes up to the rounding of x + width."""

    def rows(collection: str) -> tuple[list[tuple[Any, ...]], np.ndarray]:
        found = db.execute(
            "select i.sha256, class_id, class_name, mask_json, area, is_crowd, polygons_json,"
            " x_min, y_min, x_max, y_max from annotations a join items i on i.id = a.item_id"
            " where collection = ? order by i.sha256, class_id, x_min, y_min, polygons_json",
            (collection,),
        ).fetchall()
        return [(*row[:4], round(row[4], 6), *row[5:7]) for row in found], np.array(
            [row[7:] for row in found]
        )

    (left, left_boxes), (right, right_boxes) = rows(one), rows(other)
    assert left == right
    assert len(left) > 0
    np.testing.assert_allclose(left_boxes, right_boxes, rtol=1e-12, atol=1e-9)
    annotated = [
        db.execute(
            "select i.sha256 from annotated_items t join items i on i.id = t.item_id"
            " where collection = ? order by 1",
            (collection,),
        ).fetchall()
        for collection in (one, other)
    ]
    assert annotated[0] == annotated[1]


KILLED = """
import sys, time
from nearsql.pipeline.annotations import annotate, writer
from nearsql.udfs import connection

writer.BATCH_ITEMS = 5
flush = writer.TruthWriter._flush

def slow_flush(self):
    flush(self)
    time.sleep(0.1)

writer.TruthWriter._flush = slow_flush
annotate(connection.connect(sys.argv[1]), "many", "yolo", sys.argv[2])
"""


def test_killed_in_the_middle_and_run_again(tmp_path: Path) -> None:
    root = tmp_path / "many"
    for number in range(60):
        image(root / "images" / f"{number:02}.png", number)
        lines = [f"{k} .{10 + number} .5 .1 .2" for k in range(number % 4)]
        if number % 10 == 9:
            lines.append("9 1 2 3")
        (root / "labels").mkdir(exist_ok=True)
        (root / "labels" / f"{number:02}.txt").write_text("\n".join(lines))
    databases = [tmp_path / "whole.db", tmp_path / "killed.db"]
    opened = [connection.create(path) for path in databases]
    for db in opened:
        ingest_images(db, root)
    whole = annotate(opened[0], "many", "yolo", root)

    process = subprocess.Popen([sys.executable, "-c", KILLED, str(databases[1]), str(root)])
    deadline = time.monotonic() + 30
    n_annotated = "select count(*) from annotated_items"
    while opened[1].execute(n_annotated).fetchone()[0] < 10:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    process.wait()
    (left,) = opened[1].execute(n_annotated).fetchone()
    assert 10 <= left < 54

    result = annotate(opened[1], "many", "yolo", root)
    assert result.counts["new"] == 54 - left
    assert whole.counts["new"] == 54
    assert everything(opened[1]) == everything(opened[0])
    statuses = (
        opened[1].execute("select status from runs where kind = 'annotate' order by id").fetchall()
    )
    assert statuses == [("interrupted",), ("finished",)]
    assert replay.replay(opened[1], result.run_id).is_same
    for db in opened:
        db.close()


def test_the_size_of_batches_changes_nothing(tmp_path: Path, root: Path, monkeypatch) -> None:
    found = []
    for items, numbers in ((500, 1_000_000), (1, 1_000_000), (500, 1)):
        monkeypatch.setattr(writer, "BATCH_ITEMS", items)
        monkeypatch.setattr(writer, "BATCH_NUMBERS", numbers)
        db = connection.create(tmp_path / f"{items}-{numbers}.db")
        ingest_images(db, root)
        result = annotate(db, "pets", "yolo", root)
        sha256 = "select result_sha256 from runs where id = ?"
        found.append((everything(db), db.execute(sha256, (result.run_id,)).fetchone()))
        db.close()
    assert found[0] == found[1] == found[2]


@pytest.fixture
def nearsql(capsys) -> Nearsql:
    """Runs the command here: its exit status, and all that it says."""

    def run(*arguments: str | Path) -> tuple[int, str]:
        status = 0
        try:
            main([str(argument) for argument in arguments])
        except SystemExit as end:
            status = int(end.code or 0)
        captured = capsys.readouterr()
        return status, captured.out + captured.err

    return run


def test_two_at_once_write_no_object_twice(
    tmp_path: Path, root: Path, db: dbapi.Connection, monkeypatch
) -> None:
    """Another process annotates the same images after this one has looked at what is known."""
    ingest_images(db, root)
    look = writer.TruthWriter._known_truths

    def look_and_be_overtaken(self: writer.TruthWriter) -> dict[int, tuple[bool, str]]:
        known = look(self)
        monkeypatch.setattr(writer.TruthWriter, "_known_truths", look)
        path = db.execute("select file from pragma_database_list").fetchone()[0]
        other = connection.connect(path)
        annotate(other, "pets", "yolo", root)
        other.close()
        return known

    monkeypatch.setattr(writer.TruthWriter, "_known_truths", look_and_be_overtaken)
    annotate(db, "pets", "yolo", root)
    assert db.execute("select count(*) from runs where kind = 'annotate'").fetchone() == (2,)
    assert {name: len(rows) for name, rows in truth(db).items()} == {"0": 2, "1": 1, "2": 0, "3": 0}


def test_a_folder_that_cannot_be_written_to(tmp_path: Path, root: Path, nearsql: Nearsql) -> None:
    """Root may write anywhere, so the tree is compared, too."""
    coco(root)
    for path in [root, *root.rglob("*")]:
        path.chmod(0o555 if path.is_dir() else 0o444)
    before = tree(root)
    try:
        for format in ("yolo", "coco"):
            file = tmp_path / f"{format}.db"
            status, output = nearsql("ingest", file, root, "--annotations", format)
            assert status == 0, output
            assert tree(root) == before
    finally:
        for path in [root, *root.rglob("*")]:
            path.chmod(0o755 if path.is_dir() else 0o644)


def test_the_command(tmp_path: Path, root: Path, nearsql: Nearsql) -> None:
    file = tmp_path / "p.db"
    status, output = nearsql("ingest", file, root, "--annotations", "yolo")
    assert status == 0, output
    for sentence in (
        "run 1: the collection 'pets' has 4 items",
        "run 2: the collection 'pets' has 3 annotated objects, 1 with an outline",
        f"next: nearsql detect {file} --weights yolov8n-seg.pt --collection pets",
        "without labels: nothing there  1\n",
    ):
        assert sentence in output
    assert output.count("next:") == 1
    # Later, on a collection that is there: the ingest brings nothing new.
    (root / "labels" / "train" / "1.txt").write_text("oh no")
    status, output = nearsql(
        "ingest", file, root, "--annotations", "yolo", "--classes", root / "data.yaml"
    )
    assert status == 0, output
    assert "1.txt line 1: it has 2 columns" in output
    assert "the image counts as not annotated" in output
    assert "known        4" in output


def test_the_command_refuses_before_it_writes(tmp_path: Path, root: Path, nearsql: Nearsql) -> None:
    file, table = tmp_path / "p.db", tmp_path / "t.csv"
    table.write_text("a\nb\n")
    for arguments, sentence in (
        ([root, "--labels", "x"], "--labels goes with --annotations"),
        ([root, "--split", "x"], "--split goes with --annotations"),
        ([root, "--classes", "x"], "--classes goes with --annotations"),
        ([root, "--annotations", "yolo", "--classes", "x.yaml"], "cannot be opened"),
        ([root, "--annotations", "coco"], "no JSON file"),
        ([table, "--annotations", "coco", "--text", "a"], "is for folders of images"),
        ([table, "--split", "x", "--text", "a"], "--split goes with --annotations"),
    ):
        status, output = nearsql("ingest", file, *arguments)
        assert status == 1
        assert sentence in output
        assert not file.exists()
