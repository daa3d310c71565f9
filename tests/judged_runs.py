"""Evaluations and detector runs whose every number a test chooses."""

from collections.abc import Iterable, Mapping
from typing import Any

from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import dbapi

Predictions = Mapping[int, tuple[Any, Any]]  # item -> (true value, predicted one)
Setting = tuple[str, int, str]  # space, k, weighting


def add_items(db: dbapi.Connection, items: Iterable[int]) -> None:
    """Items of these ids, where they are not there: images of 100 x 100."""
    with immediate(db):
        db.executemany(
            "insert or ignore into items (id, kind, collection, sha256, width, height, sequence_number,"
            " uri) values (?1, 'image', 'tests', printf('%064x', ?1), 100, 100, ?1, ?1 || '.png')",
            ((item,) for item in items),
        )


def add_evaluation(
    db: dbapi.Connection,
    predictions: Mapping[Setting, Predictions],
    *,
    label: str | None = "kind",
    target: str | None = None,
    folds: int = 2,
    seed: int = 0,
) -> int:
    """A finished evaluation of these predictions; the spaces, of no vectors, are made where they lack."""
    add_items(db, {item for found in predictions.values() for item in found})
    parameters = {"label": label, "target": target, "folds": folds}
    with run(db, "evaluate", parameters=parameters, seed=seed) as current, immediate(db):
        for (space, k, weighting), found in predictions.items():
            db.execute(
                "insert or ignore into spaces (name, kind, dimensions, metric)"
                " values (?, 'embedding', 2, 'l2')",
                (space,),
            )
            (space_id,) = db.execute("select id from spaces where name = ?", (space,)).fetchone()
            db.execute(
                "insert into cv_metrics (run_id, space_id, k, weighting, metric, value)"
                " values (?, ?, ?, ?, 'any', 0)",
                (current.id, space_id, k, weighting),
            )
            db.executemany(
                "insert into cv_predictions (run_id, space_id, k, weighting, item_id, fold, y_true,"
                " y_pred) values (?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    (current.id, space_id, k, weighting, item, (item + seed) % folds, true, guess)
                    for item, (true, guess) in found.items()
                ),
            )
    return current.id


def add_detector_run(
    db: dbapi.Connection,
    metrics: Mapping[int, Mapping[str, Any]],
    losses: Mapping[int, Mapping[str, float | None]] | None = None,
    *,
    model: str = "detector",
    truth: Mapping[int, str | None] | None = None,
    **parameters: Any,
) -> int:
    """A finished detector run. metrics: columns of image_metrics by item; losses: by item and component.

    truth: of an item, the ground truth it was measured against, by default the same for all.
    """
    add_items(db, metrics)
    with immediate(db):
        db.execute("insert or ignore into models (name, family) values (?, 'yolo')", (model,))
    (model_id,) = db.execute("select id from models where name = ?", (model,)).fetchone()
    with run(db, "detect", parameters=parameters, model_id=model_id) as current, immediate(db):
        for item, values in metrics.items():
            row = {
                "run_id": current.id,
                "item_id": item,
                "n_pred": 0,
                "truth_sha256": ((truth or {}).get(item, "0") or "0") * 64,
                **values,
            }
            db.execute(
                f"insert into image_metrics ({', '.join(row)}) values ({', '.join('?' * len(row))})",
                list(row.values()),
            )
        for item, components in (losses or {}).items():
            db.executemany(
                "insert into losses (run_id, item_id, component, value, reason) values (?, ?, ?, ?, ?)",
                (
                    (current.id, item, name, value, None if value is not None else "no object")
                    for name, value in components.items()
                ),
            )
    return current.id
