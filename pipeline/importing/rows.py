"""The rows of the database that an import's rows become: written by a run, hashed by it and its replay."""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

from nearsql.pipeline.annotations.objects import AnnotatedObject, as_json
from nearsql.pipeline.annotations.outlines import (
    BadOutline,
    check_length,
    compressed,
    mask_and_area,
)
from nearsql.pipeline.importing.parts import Detection, Part, Row
from nearsql.pipeline.importing.seed_tables import COUNTS, DISTRIBUTIONS, FLAGS, SHARES
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import dbapi

_UNDEFINED = "the store has no number here"

# The columns of each table behind its run, in the order in which an import hashes them. How many of them,
# with the item, tell the rows of a run apart; predictions are numbered.
TABLES: dict[str, tuple[tuple[str, ...], int]] = {
    "vectors": (("item_id", "vector"), 1),
    "projection_points": (("item_id", "x", "y"), 1),
    "losses": (("item_id", "component", "value", "reason"), 2),
    "image_metrics": (
        ("item_id", *COUNTS, *SHARES, *FLAGS, "category_distribution_json"),
        1,
    ),
    "item_labels": (("item_id", "name", "value"), 2),
    "predictions": (
        (
            *("item_id", "number", "class_id", "class_name", "confidence"),
            *("x_min", "y_min", "x_max", "y_max", "mask_json"),
        ),
        2,
    ),
}

Tables = dict[str, list[tuple[Any, ...]]]


class BadMetrics(Exception):
    """Metrics that the database would refuse; the sentence says why."""


def tables_of(
    part: Part,
    rows: Sequence[Row],
    found: Sequence[int | None],
    sizes: Mapping[int, tuple[int | None, int | None]],
    model: str | None,
    class_names: Mapping[int, str],
) -> tuple[Tables, list[tuple[int, str, str]]]:
    """The rows of each table, in the order of their keys, and (item, stage, sentence) of what cannot be one.

    found: each row's item. sizes: width and height of images. model: how labels with metrics begin.
    """
    tables: Tables = {name: [] for name in TABLES}
    problems: list[tuple[int, str, str]] = []
    taken = sorted(
        ((item, row) for item, row in zip(found, rows, strict=True) if item is not None),
        key=lambda pair: pair[0],
    )
    for item, row in taken:
        if row.problem is not None:
            continue
        if row.vector is not None:
            tables["vectors"].append((item, row.vector))
        if row.point is not None:
            tables["projection_points"].append((item, *row.point))
        if not (row.losses or row.metrics or row.detections):
            continue  # most have vectors alone
        for component, value in sorted(row.losses.items()):
            loss = _real(value)
            tables["losses"].append(
                (item, component, loss, None if loss is not None else _UNDEFINED)
            )
        if "metrics" in part.holds and any(value is not None for value in row.metrics.values()):
            try:
                _add_metrics(tables, item, row.metrics, model)
            except BadMetrics as error:
                problems.append((item, "metrics", str(error)))
        n_good = 0
        for number, detection in enumerate(row.detections):
            try:
                prediction = _prediction(detection, sizes.get(item, (None, None)), class_names)
            except BadOutline as error:
                problems.append((item, "prediction", f"detection {number}: {error}"))
                continue
            tables["predictions"].append((item, n_good, *prediction))
            n_good += 1
    return tables, problems


def _add_metrics(tables: Tables, item: int, metrics: Mapping[str, Any], model: str | None) -> None:
    """A row of image_metrics where the store has what that needs, and labels of what it has not."""
    distribution = next(
        (metrics[name] for name in DISTRIBUTIONS if metrics.get(name) is not None), None
    )
    counted = _distribution(distribution)
    values = {name: _checked(name, metrics[name]) for name in metrics if name not in DISTRIBUTIONS}
    n_pred = values.get("n_pred")
    if n_pred is None and counted is not None:
        n_pred = sum(counted.values())
    of_truth = [values.get(name) for name in ("n_gt", "tp", "fp", "fn")]
    if n_pred is not None:
        is_known = None not in of_truth
        row = {**values, "n_pred": n_pred}
        if not is_known:
            row |= dict.fromkeys(("n_gt", "tp", "fp", "fn"))
        names = (*COUNTS, *SHARES, *FLAGS)
        text = json.dumps(counted or {}, sort_keys=True)
        tables["image_metrics"].append((item, *(row.get(name) for name in names), text))
        # What cannot stand alone there.
        values = {} if is_known else {k: values.get(k) for k in ("n_gt", "tp", "fp", "fn")}
    prefix = f"{model}/" if model else ""
    labels = [(item, f"{prefix}{k}", repr(v)) for k, v in values.items() if v is not None]
    tables["item_labels"] += sorted(labels)


def _checked(name: str, value: Any) -> int | float | None:
    if value is None:
        return None
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise BadMetrics(f"{name} is {value!r:.40}, not a number")
    if name in COUNTS or name in FLAGS:
        if value != int(value) or value < 0 or (name in FLAGS and value > 1):
            raise BadMetrics(f"{name} is {value!r:.40}")
        return int(value)
    if not 0 <= value <= 1:
        raise BadMetrics(f"{name} is {value!r:.40}, not between 0 and 1")
    return float(value)


def _distribution(value: Any) -> dict[str, int] | None:
    if value is None:
        return None
    try:
        found = json.loads(value)
    except (TypeError, ValueError, RecursionError):
        raise BadMetrics(f"category_distribution is {value!r:.40}, not JSON") from None
    if not isinstance(found, dict) or not all(
        type(n) is int and 0 <= n < 2**53 for n in found.values()
    ):
        raise BadMetrics(f"category_distribution is {value!r:.40}, not numbers by class")
    return found


def _real(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)


def _prediction(
    found: Detection, size: tuple[int | None, int | None], class_names: Mapping[int, str]
) -> tuple[Any, ...]:
    x, y, width, height = found.box
    mask = None if found.outline is None else _mask(json.loads(found.outline), found, *size)
    name = class_names.get(found.class_id)
    return (found.class_id, name, found.score, x, y, x + width, y + height, mask)


def _mask(outline: Any, found: Detection, width: int | None, height: int | None) -> str:
    """COCO RLE in JSON, of the image's own size. Raises BadOutline."""
    if width is None or height is None:
        raise BadOutline("its item is no image, on which there could be a mask")
    if isinstance(outline, dict):
        return as_json(compressed(outline, width, height))
    polygons = []
    for polygon in outline:
        is_list = isinstance(polygon, list) and len(polygon) >= 6 and len(polygon) % 2 == 0
        if not is_list or not all(type(n) in (int, float) and abs(n) < 2**24 for n in polygon):
            raise BadOutline("a polygon of its segmentation is not three points or more")
        sides = [width, height] * (len(polygon) // 2)
        polygons.append(
            [min(max(float(n), 0.0), float(s)) for n, s in zip(polygon, sides, strict=True)]
        )
    check_length(polygons, width, height)
    thing = AnnotatedObject(found.class_id, None, found.box, polygons)
    mask, _ = mask_and_area(thing, width, height)
    assert mask is not None
    return mask


def write(db: dbapi.Connection, run_id: int, space_id: int | None, tables: Tables) -> int:
    """Writes all in the caller's transaction; gives the number of vectors that were not there before."""
    inserted = 0
    if tables["vectors"]:
        assert space_id is not None
        inserted = insert_vectors(db, space_id, run_id, tables["vectors"])
    for name, (columns, _) in TABLES.items():
        if name == "vectors" or not tables[name]:
            continue
        found = tables[name]
        if name == "predictions":
            columns, found = (columns[0], *columns[2:]), [(row[0], *row[2:]) for row in found]
        own = ("source", label_source(run_id)) if name == "item_labels" else ("run_id", run_id)
        listed, marks = ", ".join((own[0], *columns)), ", ".join("?" * (len(columns) + 1))
        db.executemany(
            f"insert into {name} ({listed}) values ({marks}) on conflict do nothing",
            [(own[1], *row) for row in found],
        )
    return inserted


def of_others(
    db: dbapi.Connection, run_id: int, space_id: int | None, tables: Tables
) -> tuple[dict[int, bytes], set[tuple[int, str]]]:
    """Of what a run would write, what was there already, by others: vectors by item, and labels."""
    items = json.dumps([row[0] for row in tables["vectors"]])
    vectors = db.execute(
        "select item_id, vector from vectors where space_id = ? and run_id is not ?"
        " and item_id in (select value from json_each(?))",
        (space_id, run_id, items),
    ).fetchall()
    labelled = json.dumps(sorted({row[0] for row in tables["item_labels"]}))
    labels = db.execute(
        "select item_id, name from item_labels where source <> ?"
        " and item_id in (select value from json_each(?))",
        (label_source(run_id), labelled),
    ).fetchall()
    return dict(vectors), set(labels)


def without(tables: Tables, vectors: Mapping[int, bytes], labels: set[tuple[int, str]]) -> Tables:
    """The rows that are the run's own."""
    own = dict(tables)
    if vectors:
        own["vectors"] = [row for row in tables["vectors"] if row[0] not in vectors]
    if labels:
        own["item_labels"] = [row for row in tables["item_labels"] if row[:2] not in labels]
    return own


def label_source(run_id: int) -> str:
    """Who says the labels that an import brought."""
    return f"import run {run_id}"


def stored(
    db: dbapi.Connection, name: str, run_id: int, items: Sequence[int]
) -> list[tuple[Any, ...]]:
    """What a run wrote of these items into a table, in the order of its keys."""
    columns, _ = TABLES[name]
    order = "item_id, name" if name == "item_labels" else "item_id"
    order += {"losses": ", component", "predictions": ", id"}.get(name, "")
    listed = ", ".join(column for column in columns if column != "number")
    own = "source" if name == "item_labels" else "run_id"
    asked = label_source(run_id) if name == "item_labels" else run_id
    seen = " and placed_by_run_id is null" if name == "projection_points" else ""
    rows = db.execute(
        f"select {listed} from {name} where {own} = ?{seen}"
        f" and item_id in (select value from json_each(?)) order by {order}",
        (asked, json.dumps(list(items))),
    ).fetchall()
    if name != "predictions":
        return rows
    numbered: list[tuple[Any, ...]] = []
    for row in rows:
        is_next = numbered and numbered[-1][0] == row[0]
        numbered.append((row[0], numbered[-1][1] + 1 if is_next else 0, *row[1:]))
    return numbered
