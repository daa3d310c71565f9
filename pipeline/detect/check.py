"""Does the file still say what the detector says? A sample of each run, computed again from the images.

Each sampled image is judged alone, so that the check also finds results that depend on what else was
in the batch, or on the thread count: that is why numbers may differ a little.
"""

import random
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from nearsql.pipeline import images
from nearsql.pipeline.check.finding import Finding
from nearsql.pipeline.detect.judge import Judge
from nearsql.pipeline.detect.replayed import recorded_judge
from nearsql.pipeline.detect.rows import COLUMNS, ItemRows, item_rows, stored_sha256
from nearsql.pipeline.replay import CannotReplay, recorded_run
from nearsql.udfs import dbapi
from nearsql.udfs.sql_files import read_sql

SAMPLE = 16

# The largest differences that other batches, threads and machines explain.
LOSSES_RELATIVE = 1e-3
METRICS_ABSOLUTE = 1e-3
FEATURES_COSINE = 1e-4
BOXES_PIXELS = 0.5
CONFIDENCES = 1e-2


def check_vision(db: dbapi.Connection, *, sample: int = SAMPLE, seed: int = 0) -> list[Finding]:
    """Recomputes `sample` images of every finished detect run and compares with what is stored.

    Gives findings for losses (relative difference), metrics (absolute), features (cosine distance) and
    predictions (pixels, confidence). A run that cannot be recomputed (weights moved, annotations
    changed) is one finding that says why.
    """
    found: list[Finding] = []
    runs = db.execute(
        "select id from runs where kind = 'detect' and status = 'finished' order by id"
    )
    for (run_id,) in runs.fetchall():
        found.append(_untouched(db, run_id))
        try:
            judge = recorded_judge(db, recorded_run(db, run_id))
        except CannotReplay as reason:
            found.append(Finding("recomputing", run_id, 1, 1, detail=str(reason)))
            continue
        found += _check_run(db, run_id, judge, sample, seed)
    return found


def _untouched(db: dbapi.Connection, run_id: int) -> Finding:
    """Whether the file still has the very rows that the run wrote."""
    (recorded,) = db.execute("select result_sha256 from runs where id = ?", (run_id,)).fetchone()
    is_same = stored_sha256(db, run_id) == recorded
    detail = None if is_same else "rows were changed or deleted since the run wrote them"
    return Finding("rows as the run wrote them", run_id, 1, int(not is_same), detail=detail)


def _check_run(
    db: dbapi.Connection, run_id: int, judge: Judge, sample: int, seed: int
) -> Iterator[Finding]:
    item_ids = _sampled(db, run_id, sample, seed)
    if not item_ids:
        yield Finding("nothing to compare: all annotations have changed since", run_id, 0, 0)
        return
    tables: dict[str, _Differences] = {
        "losses": _Differences("losses", run_id, LOSSES_RELATIVE),
        "image_metrics": _Differences("metrics", run_id, METRICS_ABSOLUTE),
        "boxes": _Differences("boxes of predictions, in pixels", run_id, BOXES_PIXELS),
        "confidences": _Differences("confidences of predictions", run_id, CONFIDENCES),
        "features": _Differences("features, as cosine distance", run_id, FEATURES_COSINE),
    }
    unreadable: list[str] = []
    detector = judge.detector
    with images.quiet_decoders():
        for (judged,) in judge.judge_items(db, item_ids, 1):
            if judged.problem is not None:
                unreadable.append(f"item {judged.item_id}: {judged.problem}")
                continue
            rows = item_rows(judged, detector.classes, detector.components)
            _compare_tables(db, run_id, rows, tables)
            _compare_features(db, run_id, rows, tables["features"])
    yield Finding(
        "images that can be read",
        run_id,
        len(item_ids),
        len(unreadable),
        detail=unreadable[0] if unreadable else None,
    )
    for differences in tables.values():
        yield differences.finding()


def _sampled(db: dbapi.Connection, run_id: int, sample: int, seed: int) -> list[int]:
    """Items whose ground truth is still the one they were measured against."""
    sql = read_sql(__package__, "items_to_check")
    item_ids = [item_id for (item_id,) in db.execute(sql, (run_id,))]
    return sorted(random.Random(seed).sample(item_ids, min(sample, len(item_ids))))


class _Differences:
    """Collects how far stored and recomputed values lie apart."""

    def __init__(self, check: str, run_id: int, allowed: float) -> None:
        self._check, self._run_id, self._allowed = check, run_id, allowed
        self._checked = self._wrong = 0
        self._largest = 0.0
        self._detail: str | None = None

    def add(self, what: str, stored: Any, now: Any, difference: float | None = None) -> None:
        """One value. difference: how far apart; None: they must be equal."""
        self._checked += 1
        if difference is None:
            is_wrong = stored != now
        else:
            self._largest = max(self._largest, difference)
            is_wrong = not difference <= self._allowed  # NaN is wrong
        if is_wrong:
            self._wrong += 1
            self._detail = self._detail or f"{what}: {stored} stored, {now} now"

    def finding(self) -> Finding:
        return Finding(
            self._check,
            self._run_id,
            self._checked,
            self._wrong,
            self._largest,
            self._allowed,
            self._detail,
        )


def _compare_tables(
    db: dbapi.Connection, run_id: int, rows: ItemRows, tables: dict[str, _Differences]
) -> None:
    item = f"item {rows.item_id}"
    stored = _stored(db, run_id, rows.item_id, "losses", "component")
    then_losses = {component: value for component, value, *_ in stored}
    tables["losses"].add(f"{item}, components", len(stored), len(rows.tables["losses"]))
    for component, now, *_ in rows.tables["losses"]:
        then = then_losses.get(component)
        difference = None
        if then is not None and now is not None:
            difference = abs(now - then) / max(abs(then), 1e-3)
        tables["losses"].add(f"{item}, {component}", then, now, difference)

    (then_metrics,) = _stored(db, run_id, rows.item_id, "image_metrics", "item_id")
    (now_metrics,) = rows.tables["image_metrics"]
    for column, then, now in zip(COLUMNS["image_metrics"], then_metrics, now_metrics, strict=True):
        is_real = isinstance(then, float) and isinstance(now, float)
        difference = abs(now - then) if is_real else None
        tables["image_metrics"].add(f"{item}, {column}", then, now, difference)

    stored = _stored(db, run_id, rows.item_id, "predictions", "id")
    now_rows = rows.tables["predictions"]
    tables["confidences"].add(f"{item}, predictions", len(stored), len(now_rows))
    for then_row in stored:
        # The most alike of the same class: two that are equally confident may have changed places.
        alike = [row for row in now_rows if row[0] == then_row[0]]
        what = f"{item}, {then_row[1]}"
        if not alike:
            tables["boxes"].add(what, "a prediction", "none")
            continue
        now_row = min(
            alike,
            key=lambda row: (
                _apart(row, then_row) / BOXES_PIXELS + abs(row[2] - then_row[2]) / CONFIDENCES
            ),
        )
        tables["confidences"].add(what, then_row[2], now_row[2], abs(then_row[2] - now_row[2]))
        tables["boxes"].add(what, then_row[3:7], now_row[3:7], _apart(now_row, then_row))


def _apart(one: Sequence[Any], other: Sequence[Any]) -> float:
    """How far apart two predictions' boxes are at their farthest edge, in pixels."""
    return float(max(abs(a - b) for a, b in zip(one[3:7], other[3:7], strict=True)))


def _compare_features(
    db: dbapi.Connection, run_id: int, rows: ItemRows, differences: _Differences
) -> None:
    (model,) = db.execute(
        "select json_extract(parameters_json, '$.model') from runs where id = ?", (run_id,)
    ).fetchone()
    for layer, vector in rows.vectors.items():
        row = db.execute(
            "select v.vector from vectors v join spaces s on s.id = v.space_id"
            " where s.name = ? and v.item_id = ?",
            (f"{model}/gap/{layer}", rows.item_id),
        ).fetchone()
        what = f"item {rows.item_id}, {layer}"
        if row is None:
            differences.add(what, "no vector", "one: detect again")
        else:
            differences.add(what, "a vector", "another one", _cosine_distance(row[0], vector))


def _cosine_distance(one: bytes, other: bytes) -> float:
    """0 to 2; 1 where it is undefined, beside a vector of zeros or of no finite numbers."""
    if one == other:
        return 0.0
    a, b = (np.frombuffer(vector, "<f4").astype(np.float64) for vector in (one, other))
    lengths = float(np.linalg.norm(a) * np.linalg.norm(b))
    if not 0 < lengths < np.inf:
        return 1.0
    return max(0.0, 1 - float(a @ b) / lengths)


def _stored(
    db: dbapi.Connection, run_id: int, item_id: int, table: str, order: str
) -> Sequence[tuple[Any, ...]]:
    """An item's rows of a table, in the order in which they are computed."""
    return db.execute(
        f"select {', '.join(COLUMNS[table])} from {table} where run_id = ? and item_id = ?"
        f" order by {order}",
        (run_id, item_id),
    ).fetchall()
