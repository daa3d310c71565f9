"""Ground truth from a COCO file: what comes in, and what is said of mistakes."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from labelled import END, coco, image, problems, tree, truth
from pycocotools import mask as reference

from nearsql.pipeline import replay
from nearsql.pipeline.annotations import annotate
from nearsql.pipeline.console import UserError
from nearsql.pipeline.ingest import ingest_images
from nearsql.udfs import dbapi


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
