"""Exported YOLO data sets, as ultralytics reads them."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from pycocotools import mask as reference

from nearsql.pipeline.annotations import annotate

# First, as it keeps the import of ultralytics from changing other libraries.
from nearsql.pipeline.detect import weights  # noqa: F401
from nearsql.pipeline.export import export
from nearsql.pipeline.ingest import ingest_images
from nearsql.udfs import dbapi

# isort: split
from ultralytics.data.dataset import YOLODataset
from ultralytics.utils import YAML

sys.path.insert(0, str(Path(__file__).parents[1]))

from labelled import pets


@pytest.mark.parametrize("format_", ["yolo", "yolo-seg"])
def test_ultralytics_finds_what_was_exported(
    db: dbapi.Connection, tmp_path: Path, format_: str
) -> None:
    root = pets(tmp_path / "pets")
    (root / "labels" / "train" / "0.txt").write_text(
        "0 .25 .25 .75 .25 .75 .75\n1 .2 .2 .3 .2 .3 .3\n"
    )
    ingest_images(db, root)
    annotate(db, "pets", "yolo", root)
    out = tmp_path / "out"
    export(db, out, format=format_)
    data = YAML.load(str(out / "data.yaml"))
    assert data["names"] == {0: "cat", 1: "dog"}
    n = 0
    for split in ("train", "val"):
        dataset = YOLODataset(
            img_path=str(out / data[split]),
            data={**data, "nc": 2, "channels": 3},
            task="segment" if format_ == "yolo-seg" else "detect",
            augment=False,
        )
        for label in dataset.labels:
            rows = db.execute(
                "select class_id, x_min, y_min, x_max, y_max from annotations a"
                " join items i on i.id = a.item_id where i.uri like ? order by a.id",
                (f"%/{Path(label['im_file']).name}",),
            ).fetchall()
            height, width = label["shape"]
            cx, cy, w, h = (label["bboxes"] * [width, height, width, height]).T
            found = np.stack(
                [label["cls"][:, 0], cx - w / 2, cy - h / 2, cx + w / 2, cy + h / 2], 1
            )
            np.testing.assert_allclose(found, np.reshape(rows, (-1, 5)), atol=1e-4)
            assert len(label["segments"]) == (len(rows) if format_ == "yolo-seg" else 0)
            n += len(rows)
    assert n == 3


def test_masks_are_traced(db: dbapi.Connection, tmp_path: Path) -> None:
    root = pets(tmp_path / "pets")
    ingest_images(db, root)
    values = np.zeros((20, 40), np.uint8)
    values[2:8, 4:14] = 1
    values[12:18, 20:26] = 1
    values[19, 39] = 1  # a pixel has no outline
    rle = reference.encode(np.asfortranarray(values))
    mask = json.dumps({"size": rle["size"], "counts": rle["counts"].decode()})
    db.execute("insert into models (name, family) values ('m', 'yolo')")
    db.execute(
        "insert into runs (id, kind, model_id, status, finished_at)"
        " values (5, 'detect', 1, 'finished', 'now')"
    )
    db.execute("insert into image_metrics (run_id, item_id, n_pred) values (5, 1, 1)")
    db.execute(
        "insert into predictions (run_id, item_id, class_id, class_name, confidence, x_min, y_min, x_max,"
        " y_max, mask_json) values (5, 1, 3, 'cat', 0.9, 4, 2, 26, 18, ?)",
        (mask,),
    )
    db.commit()
    export(db, tmp_path / "out", format="yolo-seg", predictions=5)
    (label,) = (tmp_path / "out" / "labels").rglob("*.txt")
    number, *shares = label.read_text().split()
    assert number == "0"
    x, y = np.array(shares[0::2], float) * 40, np.array(shares[1::2], float) * 20
    area = abs(np.sum(x * np.roll(y, -1) - y * np.roll(x, -1))) / 2
    assert area == pytest.approx(9 * 5 + 5 * 5)  # between the centres of the pixels
    assert (x.min(), y.min(), x.max(), y.max()) == pytest.approx((4, 2, 25, 17))
