"""Exported YOLO data sets, as ultralytics reads them."""

import sys
from pathlib import Path

import numpy as np
import pytest

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
