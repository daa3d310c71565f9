"""Ground truth of coco128-seg: as ultralytics and pycocotools read the same labels."""

import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as reference

from nearsql.pipeline.annotations import AnnotateResult, annotate
from nearsql.pipeline.ingest import ingest_images
from nearsql.udfs import connection, dbapi

pytestmark = pytest.mark.assets


@pytest.fixture(scope="module")
def assets() -> Path:
    return Path(os.environ["NEARSQL_ASSETS"])


@pytest.fixture(scope="module")
def annotated(assets: Path, tmp_path_factory) -> tuple[dbapi.Connection, AnnotateResult]:
    """A database with the images and labels of coco128-seg."""
    db = connection.create(tmp_path_factory.mktemp("real") / "coco.db")
    root = assets / "coco128-seg"
    ingest_images(db, root)
    return db, annotate(db, "coco128-seg", "yolo", root, classes=assets / "coco128-seg.yaml")


def test_all_comes_in(annotated: tuple[dbapi.Connection, AnnotateResult]) -> None:
    db, result = annotated
    assert result.counts["annotated"] == result.counts["items"] == 128
    assert result.counts["objects"] == 929
    assert result.counts["background"] == 2
    assert result.counts["labels_without_image"] == 2
    assert result.counts["errors"] == result.counts["incomplete"] == 0
    assert db.execute("select count(*) from classes").fetchone() == (80,)
    # The data set has the same images for training and validation.
    assert db.execute("select value, count(*) from item_labels group by 1").fetchall() == [
        ("train", 128)
    ]
    assert result.counts["in_several_splits"] == 128


def test_classes_and_boxes_are_those_of_ultralytics(
    annotated: tuple[dbapi.Connection, AnnotateResult],
    assets: Path,
    tmp_path: Path,
) -> None:
    # First, as it keeps the import of ultralytics from changing other libraries.
    from nearsql.pipeline.detect import weights  # noqa: F401, I001
    from ultralytics.data.dataset import YOLODataset

    copy = shutil.copytree(assets / "coco128-seg", tmp_path / "coco128-seg")  # and caches
    dataset = YOLODataset(
        img_path=str(copy / "images" / "train2017"),
        data={"names": dict.fromkeys(range(80), "x"), "nc": 80, "channels": 3},
        task="segment",
        augment=False,
    )
    assert len(dataset.labels) == 128
    db, _ = annotated
    n = 0
    for label in dataset.labels:
        height, width = label["shape"]
        rows = db.execute(
            "select class_id, x_min, y_min, x_max, y_max from annotations a"
            " join items i on i.id = a.item_id where i.uri like ? and (width, height) = (?, ?)",
            (f"%/{Path(label['im_file']).name}", width, height),
        ).fetchall()
        cx, cy, w, h = (label["bboxes"] * [width, height, width, height]).T
        expected = np.stack([label["cls"][:, 0], cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1)
        # ultralytics reorders what it removes duplicates from.
        found = np.array(sorted(rows)).reshape(-1, 5)
        expected = expected[np.lexsort(np.round(expected, 2).T[::-1])]
        found = found[np.lexsort(np.round(found, 2).T[::-1])]
        np.testing.assert_allclose(found, expected, atol=1e-3, rtol=0)
        n += len(found)
    assert n == 929


def test_areas_are_those_of_pycocotools(
    annotated: tuple[dbapi.Connection, AnnotateResult], assets: Path
) -> None:
    """Straight from the label files, by pycocotools alone."""
    db, _ = annotated
    n = 0
    for uri, width, height in db.execute("select uri, width, height from items").fetchall():
        label = assets / "coco128-seg" / "labels" / "train2017" / f"{Path(uri).stem}.txt"
        lines = dict.fromkeys(label.read_text().splitlines()) if label.exists() else {}
        areas = []
        for line in lines:
            points = np.array(line.split()[1:], dtype=float).reshape(-1, 2) * [width, height]
            areas.append(
                float(reference.area(reference.frPyObjects([points.ravel()], height, width))[0])
            )
        rows = db.execute(
            "select area, mask_json from annotations a join items i on i.id = a.item_id"
            " where i.uri = ? order by a.id",
            (uri,),
        ).fetchall()
        assert [area for area, _ in rows] == areas
        for area, mask_json in rows:
            mask = json.loads(mask_json)
            assert mask["size"] == [height, width]
            assert reference.area(mask) == area
        n += len(rows)
    assert n == 929


def test_a_round_trip_through_coco(
    annotated: tuple[dbapi.Connection, AnnotateResult], assets: Path, tmp_path: Path
) -> None:
    """A COCO file made of the rows, read by pycocotools as well, gives the same rows again."""
    from pycocotools.coco import COCO

    db, _ = annotated
    document: dict[str, list] = {"images": [], "annotations": [], "categories": []}
    for class_id, name in db.execute("select class_id, name from classes"):
        document["categories"].append({"id": class_id, "name": name})
    for item_id, uri, width, height in db.execute("select id, uri, width, height from items"):
        document["images"].append(
            {"id": item_id, "file_name": Path(uri).name, "width": width, "height": height}
        )
    columns = "class_id, class_name, mask_json, area, is_crowd, polygons_json"
    rows = db.execute(
        f"select a.id, item_id, x_min, y_min, x_max, y_max, {columns} from annotations a order by a.id"
    ).fetchall()
    for row_id, item_id, x_min, y_min, x_max, y_max, class_id, _, _, area, _, polygons in rows:
        document["annotations"].append(
            {
                "id": row_id,
                "image_id": item_id,
                "category_id": class_id,
                "bbox": [x_min, y_min, x_max - x_min, y_max - y_min],
                "segmentation": json.loads(polygons),
                "area": area,
                "iscrowd": 0,
            }
        )
    path = tmp_path / "annotations.json"
    path.write_text(json.dumps(document))
    other = connection.create(tmp_path / "other.db")
    ingest_images(other, assets / "coco128-seg", collection="again")
    result = annotate(other, "again", "coco", assets / "coco128-seg", labels=path)
    assert (result.counts["annotated"], result.counts["objects"]) == (128, 929)
    boxes = "x_min, y_min, x_max, y_max"
    sql = "select {} from annotations a join items i on i.id = a.item_id order by sequence_number, a.id"
    assert (
        other.execute(sql.format(columns)).fetchall() == db.execute(sql.format(columns)).fetchall()
    )
    np.testing.assert_allclose(
        other.execute(sql.format(boxes)).fetchall(),
        db.execute(sql.format(boxes)).fetchall(),
        rtol=1e-12,
        atol=1e-9,
    )
    coco = COCO(str(path))
    for (row_id, *_), (mask_json,) in zip(
        rows, other.execute(sql.format("mask_json")).fetchall(), strict=True
    ):
        theirs = coco.annToRLE(coco.loadAnns([row_id])[0])
        assert json.loads(mask_json)["counts"] == theirs["counts"].decode()
    other.close()
