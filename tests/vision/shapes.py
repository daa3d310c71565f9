"""Seven made images with ground truth for detect runs, and all that such runs say of them."""

import io
import json

from detectors import random_image
from PIL import Image

from nearsql.pipeline.ingest import ingest_image_bytes
from nearsql.udfs import dbapi

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

BOX = [40.0, 30.0, 200.0, 30.0, 200.0, 180.0, 40.0, 180.0]
CORNER = [0.0, 0.0, 90.0, 0.0, 0.0, 90.0]


def png(seed: int) -> bytes:
    """A made image as a file."""
    buffer = io.BytesIO()
    Image.fromarray(random_image(seed)).save(buffer, "PNG")
    return buffer.getvalue()


def add_images(db: dbapi.Connection, seeds: range, collection: str = "shapes") -> list[int]:
    """Ingests made images; all items of the collection."""
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


def fill(db: dbapi.Connection) -> None:
    """Seven images: 1 to 5 with objects, 6 known to be empty, 7 not annotated."""
    add_images(db, range(IMAGES))
    for item_id in range(1, 6):
        annotate(db, item_id, ("class 1", BOX), ("class 3", CORNER))
    annotate(db, 6)


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
