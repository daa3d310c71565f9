"""Images that a detector has judged, as `nearsql detect` would leave them: made up, so that no model is needed."""

import hashlib
import io
import json
from typing import Any

import numpy as np

from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import dbapi

WIDTH, HEIGHT = 200, 100
CLASSES = ["cat", "dog"]
SETTINGS = {"metrics_conf": 0.25}
COMPONENTS = ("box", "cls")
TRUTH = "0" * 64

# What a detector says of an image: ((class, box, confidence, annotation or None), ...).
Seen = list[tuple[str, tuple[float, float, float, float], float, int | None]]


def picture(shade: int) -> bytes:
    """A PNG of WIDTH x HEIGHT."""
    from PIL import Image

    out = io.BytesIO()
    Image.new("RGB", (WIDTH, HEIGHT), (shade, shade, 90)).save(out, "PNG")
    return out.getvalue()


def add_images(db: dbapi.Connection, n: int) -> None:
    """Images 1 to n, their bytes in the file."""
    with immediate(db):
        for item in range(1, n + 1):
            data = picture(item)
            sha256 = hashlib.sha256(data).hexdigest()
            db.execute(
                "insert into items (id, kind, collection, sha256, uri, width, height, sequence_number)"
                " values (?, 'image', 'made up', ?, ?, ?, ?, ?)",
                (item, sha256, f"memory:{item}", WIDTH, HEIGHT, item - 1),
            )
            db.execute("insert into item_images values (?, 'image/png', ?)", (item, data))


def annotate(
    db: dbapi.Connection,
    item: int,
    *objects: tuple[int, str, tuple[float, float, float, float]],
    is_crowd: bool = False,
    sha256: str = TRUTH,
) -> None:
    """Gives an image objects: (id, class, box) each."""
    with immediate(db):
        for number, name, box in objects:
            db.execute(
                "insert into annotations (id, item_id, class_id, class_name, x_min, y_min, x_max, y_max,"
                " is_crowd, source) values (?, ?, 0, ?, ?, ?, ?, ?, ?, 'tests')",
                (number, item, name, *box, is_crowd),
            )
        db.execute(
            "insert into annotated_items (item_id, source, truth_sha256) values (?, 'tests', ?)"
            " on conflict do update set truth_sha256 = excluded.truth_sha256",
            (item, sha256),
        )


def add_detector(db: dbapi.Connection, name: str = "made-up") -> int:
    """A model of the yolo family."""
    with immediate(db):
        model = db.execute(
            "insert into models (name, family, parameters_json) values (?, 'yolo', ?)",
            (name, json.dumps({"classes": CLASSES})),
        ).lastrowid
    assert model is not None
    return model


def judge(
    db: dbapi.Connection,
    model: int,
    seen: dict[int, Seen],
    *,
    losses: dict[int, tuple[float | None, ...]] | None = None,
    mean_iou_gt: dict[int, float] | None = None,
    settings: dict[str, Any] | None = None,
) -> int:
    """A detect run over these images; gives its id.

    losses: of each image, in the order of COMPONENTS; default, its id and twice that.
    """
    parameters = {"settings": settings or SETTINGS}
    with run(db, "detect", parameters=parameters, model_id=model) as current, immediate(db):
        for item, predictions in seen.items():
            for name, box, confidence, annotation in predictions:
                db.execute(
                    "insert into predictions (run_id, item_id, class_id, class_name, confidence, x_min,"
                    " y_min, x_max, y_max, matched_annotation_id, iou)"
                    " values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    (
                        *(current.id, item, CLASSES.index(name), name, confidence, *box),
                        *(annotation, None if annotation is None else 0.8),
                    ),
                )
            _write_metrics(db, current.id, item, predictions, (mean_iou_gt or {}).get(item))
            values = (losses or {}).get(item, (float(item), 2.0 * item))
            for component, value in zip(COMPONENTS, values, strict=True):
                db.execute(
                    "insert into losses (run_id, item_id, component, value, reason)"
                    " values (?, ?, ?, ?, ?)",
                    (
                        current.id,
                        item,
                        component,
                        value,
                        None if value is not None else "undefined",
                    ),
                )
    return current.id


def _write_metrics(
    db: dbapi.Connection, run_id: int, item: int, predictions: Seen, quality: float | None
) -> None:
    truth = db.execute(
        "select truth_sha256 from annotated_items where item_id = ?", (item,)
    ).fetchone()
    counted = [row for row in predictions if row[2] >= SETTINGS["metrics_conf"]]
    tp = sum(annotation is not None for *_, annotation in counted)
    counts: tuple[int | None, ...] = (None,) * 4
    if truth:
        (n_gt,) = db.execute(
            "select count(*) from annotations where item_id = ? and not is_crowd"
            " and class_name in ('cat', 'dog')",
            (item,),
        ).fetchone()
        counts = (n_gt, tp, len(counted) - tp, n_gt - tp)
    db.execute(
        "insert into image_metrics (run_id, item_id, n_gt, tp, fp, fn, n_pred, truth_sha256,"
        " mean_iou_gt, mean_iou) values (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        (
            *(run_id, item, *counts, len(counted), truth[0] if truth else None),
            *(quality, 0.8 if tp else None),
        ),
    )


def add_space(
    db: dbapi.Connection, name: str, vectors: np.ndarray, kind: str = "feature", model: int = 0
) -> int:
    """A space with a vector for each image from 1."""
    with immediate(db):
        space = db.execute(
            "insert into spaces (name, kind, dimensions, metric, model_id) values (?, ?, ?, 'l2', ?)",
            (name, kind, vectors.shape[1], model or None),
        ).lastrowid
        db.executemany(
            "insert into vectors (space_id, item_id, vector) values (?, ?, ?)",
            [(space, n, row.astype("<f4").tobytes()) for n, row in enumerate(vectors, 1)],
        )
    assert space is not None
    return space
