"""What is drawn on exported images: their ground truth, or what a detector run saw in them."""

import json
import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from nearsql.pipeline.console import UserError
from nearsql.udfs import dbapi
from nearsql.udfs import rle as checked
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.sql_files import read_sql


@dataclass(frozen=True, slots=True)
class Drawn:
    """One object of an image, in its pixels. polygons: [[x, y, x, y, ...], ...]; mask: COCO RLE, compressed.

    score: of a prediction; area: of an annotation.
    """

    id: int
    item_id: int
    class_id: int
    class_name: str | None
    box: tuple[float, float, float, float]  # x_min, y_min, x_max, y_max
    polygons: list[list[float]] | None = None
    mask: dict[str, Any] | None = None
    area: float | None = None
    is_crowd: bool = False
    score: float | None = None


def require_detector_run(db: dbapi.Connection, run: int) -> None:
    """Raises LookupError when there is no such run, UserError for one that is no finished detection."""
    row = db.execute("select kind, status from runs where id = ?", (run,)).fetchone()
    if row is None:
        raise LookupError(f"there is no run {run} in this file: see `nearsql runs`")
    kind, status = row
    if kind != "detect":
        raise UserError(f"run {run} is of kind {kind!r}, and only a 'detect' run has predictions")
    if status != "finished":
        raise UserError(f"run {run} is {status}: only a finished run can be exported")


def annotated(db: dbapi.Connection, item_ids: Sequence[int]) -> set[int]:
    """Those of the items whose ground truth is known, also when it is that nothing is there."""
    rows = db.execute(
        "select item_id from annotated_items where item_id in (select value from json_each(?))",
        (json.dumps(list(item_ids)),),
    )
    return {item for (item,) in rows}


def looked_at(db: dbapi.Connection, run: int, item_ids: Sequence[int]) -> set[int]:
    """Those of the items that a detector run looked at, whether or not it saw anything."""
    rows = db.execute(
        "select item_id from image_metrics where run_id = ?"
        " and item_id in (select value from json_each(?))",
        (run, json.dumps(list(item_ids))),
    )
    return {item for (item,) in rows}


def annotations(db: dbapi.Connection, item_ids: Sequence[int]) -> Iterator[Drawn]:
    """The ground truth of these items, by item and id. What has a class and no box is left out.

    Raises UserError for an outline that is none.
    """
    rows = db.execute(
        read_sql(__package__, "annotations"), {"items": json.dumps(list(item_ids))}
    ).fetchall()
    for row_id, item, class_id, name, *box, polygons, mask, area, is_crowd in rows:
        what = f"annotation {row_id} of item {item}"
        yield Drawn(
            row_id,
            item,
            class_id,
            name,
            _box(what, box),
            _polygons(what, polygons),
            _mask(what, mask),
            area,
            bool(is_crowd),
        )


def predictions(db: dbapi.Connection, run: int, item_ids: Sequence[int]) -> Iterator[Drawn]:
    """What a detector run saw in these items, by item and id. Raises UserError for a mask that is none."""
    rows = db.execute(
        read_sql(__package__, "predictions"), {"run": run, "items": json.dumps(list(item_ids))}
    ).fetchall()
    for row_id, item, class_id, name, *box, mask, score in rows:
        what = f"prediction {row_id} of item {item}"
        yield Drawn(
            row_id, item, class_id, name, _box(what, box), mask=_mask(what, mask), score=score
        )


def _box(what: str, box: Sequence[float]) -> tuple[float, float, float, float]:
    if not all(map(math.isfinite, box)):
        raise _damaged(what, "its box is not finite")
    x_min, y_min, x_max, y_max = map(float, box)
    return x_min, y_min, x_max, y_max


def _polygons(what: str, text: str | None) -> list[list[float]] | None:
    if text is None:
        return None
    try:
        polygons = json.loads(text)
    except (ValueError, RecursionError):
        raise _damaged(what, "its outline is no JSON") from None
    if not (isinstance(polygons, list) and all(map(_is_polygon, polygons))):
        raise _damaged(what, "its outline is no list of polygons [x, y, x, y, ...]")
    return polygons or None


def _is_polygon(value: Any) -> bool:
    return (
        isinstance(value, list)
        and len(value) >= 6
        and len(value) % 2 == 0
        and all(type(number) in (int, float) and abs(number) < 1e9 for number in value)
    )


def _mask(what: str, text: str | None) -> dict[str, Any] | None:
    if text is None:
        return None
    try:
        checked.read_json("its mask", text)
    except SqlFunctionError as error:
        raise _damaged(what, str(error)) from None
    found = json.loads(text)
    return {"size": found["size"], "counts": found["counts"]}


def _damaged(what: str, why: str) -> UserError:
    return UserError(f"{what} cannot be exported: {why}; the file is damaged")
