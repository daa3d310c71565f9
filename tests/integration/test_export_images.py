"""`nearsql export` of images: COCO as pycocotools reads it, YOLO, and folders of links."""

import csv
import hashlib
import io
import json
import os
from contextlib import redirect_stdout
from pathlib import Path
from typing import Any, Literal

import numpy as np
import pytest
from exported import nearsql_export
from labelled import coco, everything, image, truth
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nearsql.pipeline.annotations import annotate
from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import export
from nearsql.pipeline.export.yolo_files import one_outline
from nearsql.pipeline.ingest import ingest_images
from nearsql.pipeline.select import select
from nearsql.udfs import connection, dbapi

COLUMNS = "class_name, x_min, y_min, x_max, y_max, polygons_json, mask_json, area, is_crowd"


@pytest.fixture
def by_coco(db: dbapi.Connection, root: Path) -> dbapi.Connection:
    """Four images: a box, an object in two parts and a crowd, nothing, and one that is not annotated."""
    coco(root)
    ingest_images(db, root)
    annotate(db, "pets", "coco", root)
    return db


@pytest.fixture
def by_yolo(db: dbapi.Connection, root: Path) -> dbapi.Connection:
    """Boxes, an outline, one without labels, and an empty image of another split."""
    ingest_images(db, root)
    annotate(db, "pets", "yolo", root)
    return db


def detector_run(db: dbapi.Connection, *seen: tuple[Any, ...], looked_at: list[int]) -> int:
    """A finished run with these (item, class number, class name, confidence, box, mask)."""
    db.execute("insert into models (name, family) values ('yolo-test', 'yolo')")
    run = db.execute("insert into runs (kind, model_id) values ('detect', 1)").lastrowid
    assert run is not None
    for item, class_id, name, confidence, box, mask in seen:
        db.execute(
            "insert into predictions (run_id, item_id, class_id, class_name, confidence, x_min, y_min,"
            " x_max, y_max, mask_json) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
            (run, item, class_id, name, confidence, *box, mask),
        )
    for item in looked_at:
        db.execute(
            "insert into image_metrics (run_id, item_id, n_pred) values (?, ?, 0)", (run, item)
        )
    db.execute("update runs set status = 'finished', finished_at = 'now' where id = ?", (run,))
    db.commit()
    return run


def pycoco(path: Path) -> COCO:
    with redirect_stdout(io.StringIO()):
        return COCO(str(path))


def again(tmp_path: Path, format_: Literal["yolo", "coco"], folder: Path) -> dbapi.Connection:
    """What our own reader finds in an export."""
    connection.create(tmp_path / "again.db").close()
    db = connection.connect(tmp_path / "again.db")
    ingest_images(db, folder, collection="pets")
    annotate(db, "pets", format_, folder)
    return db


def listed(folder: Path) -> dict[str, str]:
    """file -> how it was made"""
    with (folder / "files.csv").open(newline="") as file:
        return {row["file"]: row["how"] for row in csv.DictReader(file)}


def test_coco_as_pycocotools_reads_it(by_coco: dbapi.Connection, tmp_path: Path) -> None:
    out = tmp_path / "out"
    result = export(by_coco, out, format="coco")
    assert result.items == 3
    assert result.counts == {
        "classes": 2,
        "annotations": 3,
        "links": 3,
        "without ground truth, left out": 1,
    }
    found = pycoco(out / "instances.json")
    assert [found.loadCats(i)[0] for i in found.getCatIds()] == [
        {"id": 18, "name": "dog", "supercategory": "animal"},
        {"id": 90, "name": "toothbrush", "supercategory": "indoor"},
    ]
    rows = by_coco.execute(
        "select a.id, item_id, class_id, x_min, y_min, x_max - x_min, y_max - y_min, area, is_crowd,"
        " mask_json from annotations a order by a.id"
    ).fetchall()
    for row_id, item, class_id, *box, area, is_crowd, mask in rows:
        (thing,) = found.loadAnns([row_id])
        assert (thing["image_id"], thing["category_id"], thing["bbox"]) == (item, class_id, box)
        assert (thing["area"], thing["iscrowd"]) == (area, is_crowd)
        if mask is not None:
            drawn = found.annToRLE(thing)
            counts = drawn["counts"]  # bytes where it was drawn, a text where it was given
            counts = counts.decode() if isinstance(counts, bytes) else counts
            assert counts == json.loads(mask)["counts"]
    for item, uri in by_coco.execute("select id, uri from items where id <> 3"):
        (shown,) = found.loadImgs([item])
        link = out / "images" / shown["file_name"]
        assert link.is_symlink()
        assert link.resolve() == Path(uri).resolve()
        assert (shown["width"], shown["height"]) == (40, 20)


def test_coco_read_back_is_the_same(by_coco: dbapi.Connection, tmp_path: Path) -> None:
    export(by_coco, tmp_path / "out", format="coco", images="copy")
    read = again(tmp_path, "coco", tmp_path / "out")
    assert truth(read, COLUMNS) == truth(by_coco, COLUMNS)
    assert everything(read)["classes"] == everything(by_coco)["classes"]
    read.close()


def test_predictions_as_pycocotools_judges_them(by_coco: dbapi.Connection, tmp_path: Path) -> None:
    # The model numbers its classes in its own way: a dog is a dog.
    run = detector_run(
        by_coco,
        (1, 16, "dog", 0.9, (1, 2, 4.5, 6), None),
        (2, 16, "dog", 0.8, (4, 2, 36, 18), None),
        (2, 90, "cat", 0.3, (0, 0, 5, 5), None),
        looked_at=[1, 2, 4],
    )
    result = export(by_coco, tmp_path / "out", format="coco", predictions=run)
    assert result.counts["predictions"] == 3
    assert json.loads((tmp_path / "out" / "index.json").read_text())["predictions_of_run"] == run
    found = pycoco(tmp_path / "out" / "instances.json")
    with redirect_stdout(io.StringIO()):
        seen = found.loadRes(str(tmp_path / "out" / "predictions.json"))
        judged = COCOeval(found, seen, "bbox")
        judged.params.catIds = [18]
        judged.evaluate()
        judged.accumulate()
        judged.summarize()
    assert judged.stats[0] == pytest.approx(1.0)
    assert [thing["category_id"] for thing in seen.dataset["annotations"]] == [18, 18, 91]


def test_yolo_read_back_is_the_same(by_yolo: dbapi.Connection, tmp_path: Path) -> None:
    result = export(by_yolo, tmp_path / "out", format="yolo", images="copy")
    assert (result.items, result.counts["objects"], result.counts["classes"]) == (4, 3, 2)
    assert (tmp_path / "out" / "data.yaml").read_text().splitlines() == [
        "train: images/train",
        "val: images/val",
        "names:",
        "  0: cat",
        "  1: dog",
    ]
    assert sorted(listed(tmp_path / "out")) == [
        "images/train/0.png",
        "images/train/1.png",
        "images/train/2.png",
        "images/val/3.png",
        "labels/train/0.txt",
        "labels/train/1.txt",
        "labels/train/2.txt",
        "labels/val/3.txt",
    ]
    read = again(tmp_path, "yolo", tmp_path / "out")
    assert list(truth(read)) == list(truth(by_yolo))
    for name, rows in truth(by_yolo).items():
        back = truth(read)[name]
        assert [row[:2] for row in back] == [row[:2] for row in rows]
        for one, other in zip(back, rows, strict=True):
            assert one[2:] == pytest.approx(other[2:], abs=1e-6)
    splits = "select sha256, value from item_labels join items on id = item_id order by 1"
    assert read.execute(splits).fetchall() == by_yolo.execute(splits).fetchall() != []
    read.close()


def test_outlines_in_several_parts_become_one(by_coco: dbapi.Connection, tmp_path: Path) -> None:
    by_coco.execute("delete from annotations where polygons_json is null and not is_crowd")
    by_coco.commit()
    result = export(by_coco, tmp_path / "out", format="yolo-seg")
    assert result.counts["crowds left out"] == 1
    assert result.counts["classes with new numbers"] == 2  # 18 and 90 are not 0 and 1
    (line,) = (tmp_path / "out" / "labels" / "val" / "1.txt").read_text().splitlines()
    number, *shares = line.split()
    assert number == "0"
    x = np.array(shares[0::2], float) * 40
    y = np.array(shares[1::2], float) * 20
    # Shoelace: the line between the parts, walked both ways, encloses nothing.
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert area == pytest.approx(32 * 16 / 2 + 4 * 8 / 2)
    export(by_coco, tmp_path / "boxes", format="yolo")
    (line,) = (tmp_path / "boxes" / "labels" / "val" / "1.txt").read_text().splitlines()
    assert line == "0 0.5 0.5 0.8 0.8"


def test_one_outline_goes_along_the_nearest_corners() -> None:
    parts = [[0, 0, 4, 0, 4, 4], [9, 9, 6, 5, 9, 5], [20, 20, 21, 20, 21, 21]]
    assert one_outline(parts[:1]) == [(0, 0), (4, 0), (4, 4)]
    joined = one_outline(parts[:2])
    assert joined == [(0, 0), (4, 0), (4, 4), (6, 5), (9, 5), (9, 9), (6, 5), (4, 4)]
    assert len(one_outline(parts)) == 3 + 5 + 5


def test_what_yolo_cannot_say(by_coco: dbapi.Connection, tmp_path: Path) -> None:
    with pytest.raises(
        UserError, match="annotation 1 of item 1 has a box and no outline: --format"
    ):
        export(by_coco, tmp_path / "out", format="yolo-seg")
    assert list(tmp_path.glob("*out*")) == []


def test_predictions_as_labels(by_yolo: dbapi.Connection, tmp_path: Path) -> None:
    run = detector_run(
        by_yolo,
        (2, 40, "dog", 0.9, (-3, 0, 20, 10), None),
        (2, 7, "bird", 0.4, (10, 10, 30, 20), None),
        (3, 7, "bird", 0.4, (10, 10, 10, 20), None),  # without area
        looked_at=[2, 3],
    )
    result = export(by_yolo, tmp_path / "out", format="yolo", predictions=run, images="none")
    assert result.counts == {
        "classes": 3,
        "objects": 2,
        "without area": 1,
        "not looked at, left out": 2,
        "classes with new numbers": 3,
    }
    labels = tmp_path / "out" / "labels" / "train"
    assert (labels / "1.txt").read_text() == "1 0.25 0.25 0.5 0.5\n2 0.5 0.75 0.5 0.5\n"
    assert (labels / "2.txt").read_text() == ""
    assert not (tmp_path / "out" / "images").exists()


def test_links_to_files_and_copies_of_the_rest(by_yolo: dbapi.Connection, tmp_path: Path) -> None:
    data = (Path(image(tmp_path / "in.png", 9))).read_bytes()
    for item, kind, uri, content in (
        (11, "image", "memory:a/b", None),
        (12, "text", "notes.csv#1", "héllo\r\nworld"),
    ):
        digest = hashlib.sha256(data if content is None else content.encode()).hexdigest()
        by_yolo.execute(
            "insert into items (id, kind, collection, sha256, uri, content, width, height,"
            " sequence_number) values (?, ?, 'others', ?, ?, ?, ?, ?, 0)",
            (item, kind, digest, uri, content, *([40, 20] if content is None else [None, None])),
        )
    by_yolo.execute("insert into item_images values (11, 'image/png', ?)", (data,))
    by_yolo.commit()
    select(by_yolo, "some", ids=[1, 11, 12])
    out = tmp_path / "out"
    result = export(by_yolo, out, format="links", within="some")
    assert result.items == 3
    assert listed(out) == {
        "items/0.png": "link",
        "items/b.png": "file",
        "items/notes.csv_1.txt": "file",
    }
    assert (out / "items" / "b.png").read_bytes() == data
    assert (out / "items" / "notes.csv_1.txt").read_bytes() == "héllo\r\nworld".encode()
    export(by_yolo, out, format="links", within="some", images="copy", overwrite=True)
    assert set(listed(out).values()) == {"file"}
    assert not any(path.is_symlink() for path in out.rglob("*"))


def test_hostile_addresses_lead_nowhere(by_yolo: dbapi.Connection, tmp_path: Path) -> None:
    secret = tmp_path / "secret"
    secret.write_text("a password")
    os.mkfifo(tmp_path / "pipe")
    uris = [
        "../../../escaped.png",
        str(secret),
        str(tmp_path / "pipe"),
        "/dev/zero",
        "",
        "a\nb/../..",
    ]
    for number, uri in enumerate(uris, 21):
        by_yolo.execute(
            "insert into items (id, kind, collection, sha256, uri, width, height, sequence_number)"
            " values (?, 'image', 'bad', ?, ?, 4, 4, 0)",
            (number, f"{number:064x}", uri),
        )
        by_yolo.execute(
            "insert into annotated_items (item_id, source, truth_sha256) values (?, 'x', ?)",
            (number, "0" * 64),
        )
    # An address that goes around: what it leads to is what was ingested, and its name is its last part.
    (there,) = by_yolo.execute("select uri from items where id = 1").fetchone()
    around = f"{Path(there).parent}/../train/{Path(there).name}"
    by_yolo.execute("update items set uri = ? where id = 1", (around,))
    by_yolo.commit()
    for format_ in ("links", "coco", "yolo"):
        out = tmp_path / "there" / format_
        result = export(by_yolo, out, format=format_)
        assert len(result.problems) == len(uris)
        assert any("it is not a regular file" in problem for problem in result.problems)
        links = [path for path in out.rglob("*") if path.is_symlink()]
        assert {link.resolve().name for link in links} <= {f"{n}.png" for n in range(4)}
        assert {path.name for path in (tmp_path / "there").iterdir()} <= {"links", "coco", "yolo"}
    assert secret.read_text() == "a password"


def test_files_that_changed_are_left_out(by_yolo: dbapi.Connection, tmp_path: Path) -> None:
    uris = dict(by_yolo.execute("select id, uri from items"))
    Path(uris[1]).write_bytes(b"something else")
    done = nearsql_export(tmp_path / "test.db", "--to", tmp_path / "out", "--format", "yolo")
    assert done.exit_code == 0, done.output
    assert "left out: item 1: it changed on disk since it was ingested" in done.stderr
    assert "could not be had  1" in done.stderr
    assert not (tmp_path / "out" / "labels" / "train" / "0.txt").exists()
    for uri in uris.values():
        Path(uri).unlink(missing_ok=True)
    with pytest.raises(
        UserError, match="no item's file could be had, and nothing was written: item 1"
    ):
        export(by_yolo, tmp_path / "none", format="links")
    assert not (tmp_path / "none").exists()
    assert export(by_yolo, tmp_path / "none", format="yolo", images="none").items == 4


def test_only_what_an_export_made_is_replaced(by_yolo: dbapi.Connection, tmp_path: Path) -> None:
    out = tmp_path / "out"
    export(by_yolo, out, format="yolo")
    mine = out / "labels" / "train" / "mine.txt"
    mine.write_text("0 .5 .5 1 1")
    with pytest.raises(
        UserError, match=r"holds 'labels/train/mine.txt', which no export put there"
    ):
        export(by_yolo, out, format="coco", overwrite=True)
    mine.unlink()
    (out / "images" / "empty").mkdir()
    with pytest.raises(UserError, match="holds 'images/empty'"):
        export(by_yolo, out, format="coco", overwrite=True)
    (out / "images" / "empty").rmdir()
    export(by_yolo, out, format="coco", overwrite=True)
    assert sorted(path.name for path in out.iterdir()) == [
        "files.csv",
        "images",
        "index.json",
        "instances.json",
    ]
    # What the links led to is still there.
    assert all(Path(uri).exists() for (uri,) in by_yolo.execute("select uri from items"))


def test_names_that_yaml_would_misread(by_yolo: dbapi.Connection, tmp_path: Path) -> None:
    import yaml

    names = ["no", "a: b\n- c", "☃ \u2028'\"", "1.0"]
    by_yolo.execute("delete from classes")
    by_yolo.executemany(
        "insert into classes (collection, class_id, name) values ('pets', ?, ?)",
        list(enumerate(names)),
    )
    by_yolo.execute("update annotations set class_name = null")
    by_yolo.commit()
    export(by_yolo, tmp_path / "out", format="yolo", images="none")
    text = (tmp_path / "out" / "data.yaml").read_text("utf-8")
    assert yaml.safe_load(text)["names"] == dict(enumerate(names))


def test_classes_without_names(by_yolo: dbapi.Connection, tmp_path: Path) -> None:
    by_yolo.execute("update annotations set class_name = ''")
    by_yolo.execute("delete from classes where class_id = 1")
    run = detector_run(
        by_yolo,
        (2, 1, "", 0.9, (0, 0, 5, 5), None),
        (2, 9, None, 0.9, (0, 0, 5, 5), None),
        looked_at=[1, 2],
    )
    export(by_yolo, tmp_path / "out", format="coco", predictions=run, images="none")
    found = pycoco(tmp_path / "out" / "instances.json")
    names = {category["id"]: category["name"] for category in found.dataset["categories"]}
    assert names == {0: "cat", 1: "class 1", 9: "class 9"}
    seen = json.loads((tmp_path / "out" / "predictions.json").read_text())
    assert [thing["category_id"] for thing in seen] == [1, 9]
    by_yolo.executescript("delete from classes; delete from annotations; delete from predictions")
    with pytest.raises(UserError, match="no class is known of these images"):
        export(by_yolo, tmp_path / "none", format="yolo")


def test_numbers_that_mean_two_things(by_yolo: dbapi.Connection, tmp_path: Path) -> None:
    # In another collection, 0 is a car.
    by_yolo.execute("update items set collection = 'cars' where id = 1")
    by_yolo.execute("insert into classes (collection, class_id, name) values ('cars', 0, 'car')")
    by_yolo.execute("update annotations set class_name = 'car' where item_id = 1 and class_id = 0")
    by_yolo.commit()
    result = export(by_yolo, tmp_path / "out", format="coco")
    found = pycoco(tmp_path / "out" / "instances.json")
    names = {category["id"]: category["name"] for category in found.dataset["categories"]}
    assert names == {1: "car", 2: "cat", 3: "dog"}
    assert result.counts["classes with new numbers"] == 3
    by_id = dict(by_yolo.execute("select id, class_name from annotations"))
    for thing in found.dataset["annotations"]:
        assert names[thing["category_id"]] == by_id[thing["id"]]


@pytest.mark.parametrize(
    ("column", "value", "message"),
    [
        (
            "polygons_json",
            '{"a": 1}',
            "annotation 1 of item 1 cannot be exported: its outline is no list",
        ),
        ("polygons_json", "[[1, 2, 3, 4]]", "its outline is no list of polygons"),
        ("polygons_json", "[[1, 2, 3, 4, 5, 1e99]]", "its outline is no list of polygons"),
        ("mask_json", '{"size": [2, 2], "counts": "P"}', "its mask has counts that end within"),
        ("x_max", 9e999, "its box is not finite"),
    ],
)
def test_damaged_rows(
    by_yolo: dbapi.Connection, tmp_path: Path, column: str, value: Any, message: str
) -> None:
    by_yolo.execute(f"update annotations set {column} = ? where id = 1", (value,))
    by_yolo.commit()
    for format_ in ("coco", "yolo"):
        with pytest.raises(UserError, match=message):
            export(by_yolo, tmp_path / "out", format=format_)
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("how", "message"),
    [
        (
            {"format": "coco", "runs": [1]},
            "--run names maps and clusterings, and --format coco has none",
        ),
        ({"format": "csv", "predictions": 1}, "--predictions goes with --format coco"),
        ({"format": "links", "images": "none"}, "--images none does not go with --format links"),
        ({"format": "json", "images": "copy"}, "--images copy does not go with --format json"),
        (
            {"format": "coco", "predictions": 1},
            "run 1 is of kind 'ingest', and only a 'detect' run",
        ),
        ({"format": "yolo", "within": "[3]"}, "none of the 1 items is an image whose ground truth"),
        ({"format": "yolo", "within": "[99]"}, "none of the 0 items"),
        ({"format": "csv", "within": "nothing"}, "no selection 'nothing'"),
    ],
)
def test_refusals(
    by_yolo: dbapi.Connection, tmp_path: Path, how: dict[str, Any], message: str
) -> None:
    by_yolo.execute("delete from annotated_items where item_id = 3")
    by_yolo.commit()
    with pytest.raises(Exception, match=message) as raised:
        export(by_yolo, tmp_path / "out", **how)
    assert type(raised.value).__name__ in ("UserError", "SqlFunctionError")
    assert not (tmp_path / "out").exists()
