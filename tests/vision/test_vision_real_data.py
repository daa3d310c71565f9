"""Real weights on real photographs, end to end: the numbers are those of the tools people know."""

import contextlib
import io
import json
import shutil
from pathlib import Path

import pytest
import yaml
from detectors import assets
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from nearsql.pipeline.annotations.annotate import annotate
from nearsql.pipeline.detect.check import check_vision
from nearsql.pipeline.detect.run import DetectResult, detect
from nearsql.pipeline.ingest import ingest_images
from nearsql.udfs import connection, dbapi

# isort: split
from ultralytics import YOLO

pytestmark = pytest.mark.assets

# Those of ultralytics' val(), on the square that we always letterbox into.
VAL = {"imgsz": 320, "conf": 0.001, "iou": 0.7, "max_det": 300}


@pytest.fixture(scope="module")
def dataset(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy of coco128-seg, since ultralytics writes caches beside the labels."""
    folder = tmp_path_factory.mktemp("coco128") / "coco128-seg"
    shutil.copytree(assets() / "coco128-seg", folder)
    for path in [folder, *folder.rglob("*")]:
        path.chmod(0o755 if path.is_dir() else 0o644)
    return folder


@pytest.fixture(scope="module")
def judged(
    dataset: Path, tmp_path_factory: pytest.TempPathFactory
) -> tuple[dbapi.Connection, DetectResult]:
    """The database of one run with val()'s settings over all 128 photographs."""
    db = connection.create(tmp_path_factory.mktemp("judged") / "photos.db")
    ingest_images(db, dataset / "images", collection="coco128")
    annotate(db, "coco128", "yolo", dataset, classes=assets() / "coco128-seg.yaml")
    result = detect(
        db,
        assets() / "weights" / "yolov8n-seg.pt",
        collection="coco128",
        multi_label=True,
        metrics_conf=0.25,
        **VAL,
    )
    return db, result


def average_precision(db: dbapi.Connection, run_id: int, kind: str) -> float:
    """mAP50-95 by pycocotools, of the stored predictions against the stored annotations."""
    columns = "class_id, x_min, y_min, x_max - x_min, y_max - y_min, mask_json"
    truth = {
        "images": [
            {"id": i, "width": w, "height": h}
            for i, w, h in db.execute("select id, width, height from items")
        ],
        "categories": [{"id": i, "name": str(i)} for i in range(80)],
        "annotations": [
            {
                "id": number,
                "image_id": item,
                "category_id": class_id,
                "bbox": box,
                "segmentation": json.loads(mask),
                "area": box[2] * box[3],
                "iscrowd": 0,
            }
            for number, item, class_id, *box, mask in db.execute(
                f"select id, item_id, {columns} from annotations"
            )
        ],
    }
    predictions = [
        {
            "image_id": item,
            "score": score,
            "category_id": class_id,
            # loadRes takes the box where both are there.
            **({"bbox": box} if kind == "bbox" else {"segmentation": json.loads(mask)}),
        }
        for item, score, class_id, *box, mask in db.execute(
            f"select item_id, confidence, {columns} from predictions where run_id = ?", (run_id,)
        )
    ]
    with contextlib.redirect_stdout(io.StringIO()):
        coco = COCO()
        coco.dataset = truth
        coco.createIndex()
        evaluation = COCOeval(coco, coco.loadRes(predictions), kind)
        evaluation.params.maxDets = [1, 100, 300]
        evaluation.evaluate()
        evaluation.accumulate()
    precision = evaluation.eval["precision"][:, :, :, 0, 2]
    return float(precision[precision > -1].mean())


def test_average_precision_is_that_of_val(
    judged: tuple[dbapi.Connection, DetectResult], dataset: Path, tmp_path: Path
) -> None:
    db, result = judged
    assert result.run_id is not None
    names = yaml.safe_load((assets() / "coco128-seg.yaml").read_text())["names"]
    data = tmp_path / "data.yaml"
    folders = {"path": str(dataset), "train": "images/train2017", "val": "images/train2017"}
    data.write_text(yaml.safe_dump({**folders, "names": names}))
    model = YOLO(assets() / "weights" / "yolov8n-seg.pt")
    options = {"plots": False, "verbose": False, "workers": 0, "device": "cpu"}
    official = model.val(data=str(data), rect=False, project=str(tmp_path), **VAL, **options)
    box = average_precision(db, result.run_id, "bbox")
    mask = average_precision(db, result.run_id, "segm")
    print(
        f"box {box:.4f}, val() {official.box.map:.4f}; mask {mask:.4f}, val() {official.seg.map:.4f}"
    )
    assert abs(box - official.box.map) < 0.01
    assert abs(mask - official.seg.map) < 0.02


def test_what_was_stored_is_what_the_images_say(
    judged: tuple[dbapi.Connection, DetectResult],
) -> None:
    db, _ = judged
    findings = check_vision(db, sample=6)
    assert len(findings) == 7
    assert not [finding for finding in findings if finding.wrong]


def test_the_detector_fails_where_its_metrics_say(
    judged: tuple[dbapi.Connection, DetectResult],
) -> None:
    db, result = judged
    assert (result.counts["images"], result.counts["annotated"]) == (128, 128)
    (n_gt,) = db.execute("select sum(n_gt) from image_metrics").fetchone()
    assert n_gt == 929
    # The nearest in the space of metrics have nearer losses than images have by chance.
    near, chance = db.execute(
        """
        with cls as (select item_id, value from losses where component = 'cls')
        select (select avg(abs(a.value - b.value)) from cls a,
                    knn('yolov8n-seg/metrics', a.item_id, 3) k join cls b on b.item_id = k.id),
               (select avg(abs(a.value - b.value)) from cls a, cls b)
        """
    ).fetchone()
    assert near < chance / 2
