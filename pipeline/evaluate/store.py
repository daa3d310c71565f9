"""The rows of an evaluation: folds, voters, predictions, metrics. Harmless to write again."""

import math
from collections.abc import Iterable, Iterator
from itertools import islice

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.evaluate.judge import Judged, LabelPredictions
from nearsql.pipeline.evaluate.metrics import MetricRow
from nearsql.pipeline.evaluate.targets import Labels
from nearsql.pipeline.evaluate.task import Task
from nearsql.udfs import dbapi
from nearsql.udfs.evaluation_neighbors import Voters

Numbers = NDArray[np.float64]

# What is written in one transaction.
ROWS_A_WRITE = 200_000
_ROWS_A_STATEMENT = 200
# Items whose stored voters are read together.
_ITEMS_A_READ = 4096

FoldRow = tuple[int, int, str | None]
PredictionRow = tuple[int, str, int, int, object, object, float | None]
VoterRow = tuple[int, bytes, bytes]


def fold_rows(task: Task) -> Iterator[FoldRow]:
    """(item, fold, group), by item."""
    n = len(task.items)
    groups = task.groups or [None] * n
    return zip(task.items.tolist(), task.folds.tolist(), groups, strict=True)


def prediction_rows(task: Task, judged: Judged, at: int, weighting: str) -> Iterator[PredictionRow]:
    """(k, weighting, item, fold, y_true, y_pred, score) for the k at a place of the settings, by item."""
    found = judged.by_weighting[weighting]
    n, k = len(task.items), task.settings.ks[at]
    predicted: list[str | None] | list[float | None]
    scores: list[float | None] = [None] * n
    if isinstance(found, LabelPredictions):
        assert isinstance(task.target, Labels)
        names = task.target.names
        predicted = [None if code < 0 else names[code] for code in found.codes[at].tolist()]
        scores = _or_none(found.shares[at])
    else:
        predicted = _or_none(found.values[at])
    return zip(
        [k] * n,
        [weighting] * n,
        task.items.tolist(),
        task.folds.tolist(),
        task.target.values,
        predicted,
        scores,
        strict=True,
    )


def _or_none(numbers: Numbers) -> list[float | None]:
    """The numbers as a list; None for NaN."""
    return [None if math.isnan(number) else number for number in numbers.tolist()]


def voter_rows(task: Task, block: Voters) -> Iterator[VoterRow]:
    """(item, its voters' ids, their distances), both little-endian, for the items of a block."""
    ids = task.items[block.neighbors].astype("<i8")
    distances = block.distances.astype("<f8")
    counts = (block.neighbors >= 0).sum(axis=1)
    items = task.items[block.rows]
    for item, n, its_ids, its_distances in zip(
        items.tolist(), counts.tolist(), ids, distances, strict=True
    ):
        yield item, its_ids[:n].tobytes(), its_distances[:n].tobytes()


def write_folds(db: dbapi.Connection, run_id: int, rows: Iterable[FoldRow]) -> None:
    """In the caller's transaction, as all of these."""
    _insert(
        db,
        "insert or replace into folds (run_id, item_id, fold, group_key)",
        4,
        ((run_id, *row) for row in rows),
    )


def write_voters(
    db: dbapi.Connection, run_id: int, space_id: int, rows: Iterable[VoterRow]
) -> None:
    """The voters of some items."""
    _insert(
        db,
        "insert or replace into cv_neighbors (run_id, space_id, item_id, neighbor_ids, distances)",
        5,
        ((run_id, space_id, *row) for row in rows),
    )


def write_predictions(
    db: dbapi.Connection, run_id: int, space_id: int, rows: Iterable[PredictionRow]
) -> None:
    """Some predictions."""
    _insert(
        db,
        "insert or replace into cv_predictions (run_id, space_id, k, weighting, item_id, fold, y_true,"
        " y_pred, score)",
        9,
        ((run_id, space_id, *row) for row in rows),
    )


def write_metrics(
    db: dbapi.Connection, run_id: int, space_id: int, rows: Iterable[MetricRow]
) -> None:
    """All metrics of a space."""
    _insert(
        db,
        "insert into cv_metrics (run_id, space_id, k, weighting, fold, metric, value, reason)",
        8,
        ((run_id, space_id, *row) for row in rows),
    )


def _insert(
    db: dbapi.Connection, into: str, width: int, rows: Iterator[tuple[object, ...]]
) -> None:
    """Many rows by each statement: one row at a time, a REPLACE that checks foreign keys takes 7 times as
    long."""
    one = f"({', '.join('?' * width)})"
    while batch := list(islice(rows, _ROWS_A_STATEMENT)):
        values = ", ".join([one] * len(batch))
        db.execute(f"{into} values {values}", [value for row in batch for value in row])


def stored_voters(
    db: dbapi.Connection, run_id: int, space_id: int, task: Task
) -> Iterator[Voters] | None:
    """The voters of all items, as a stopped run has stored them; None when some are lacking."""
    (n,) = db.execute(
        "select count(*) from cv_neighbors where run_id = ? and space_id = ?", (run_id, space_id)
    ).fetchone()
    return _read_voters(db, run_id, space_id, task) if n == len(task.items) else None


def _read_voters(db: dbapi.Connection, run_id: int, space_id: int, task: Task) -> Iterator[Voters]:
    k = task.settings.ks[-1]
    for start in range(0, len(task.items), _ITEMS_A_READ):
        rows = np.arange(start, min(start + _ITEMS_A_READ, len(task.items)))
        neighbors = np.full((len(rows), k), -1, np.int64)
        distances = np.full((len(rows), k), np.inf)
        found = db.execute(
            "select item_id, neighbor_ids, distances from cv_neighbors"
            " where run_id = ? and space_id = ? and item_id between ? and ? order by item_id",
            (run_id, space_id, int(task.items[rows[0]]), int(task.items[rows[-1]])),
        ).fetchall()
        for at, (_, ids, far) in enumerate(found):
            its = np.frombuffer(ids, "<i8")
            neighbors[at, : len(its)] = np.searchsorted(task.items, its)
            distances[at, : len(its)] = np.frombuffer(far, "<f8")
        yield Voters(rows, neighbors, distances)
