"""An evaluation computed again, from what its run recorded."""

from collections.abc import Iterator
from typing import Any

import numpy as np

from nearsql.pipeline.console import UserError
from nearsql.pipeline.evaluate.judge import Judge, Judged
from nearsql.pipeline.evaluate.metrics import MetricRow, metric_rows
from nearsql.pipeline.evaluate.run import judge_space, result_hash
from nearsql.pipeline.evaluate.settings import settings
from nearsql.pipeline.evaluate.store import fold_rows, prediction_rows, voter_rows
from nearsql.pipeline.evaluate.task import Task, read_task
from nearsql.pipeline.replay import CannotReplay, RecordedRun
from nearsql.pipeline.result_tables import Again, ResultTable
from nearsql.pipeline.runs import RunInput
from nearsql.pipeline.within import recorded_within
from nearsql.udfs import dbapi
from nearsql.udfs.evaluation_neighbors import Voters

Row = tuple[Any, ...]


def recompute(db: dbapi.Connection, recorded: RecordedRun) -> Again:
    """The folds, voters, predictions and metrics of a run, computed anew.

    Raises CannotReplay where what it read is no longer as it was.
    """
    then = recorded.parameters
    if (then["label"] is None) == (then["target"] is None):
        raise CannotReplay(
            f"the record of run {recorded.id} names not one label or number to predict"
        )
    sources = _sources(db, recorded)
    try:
        task = read_task(
            db,
            sources,
            settings(then["k"], then["weighting"], then["temperature"], then["folds"]),
            label=then["label"],
            target=then["target"],
            detect_run=then["detect_run"],
            group_by=then["group_by"],
            within=recorded_within(db, recorded),
            seed=recorded.seed or 0,
            thresholds=_thresholds(then, sources),
        )
    except UserError as error:
        raise CannotReplay(f"run {recorded.id}: {error}") from error
    if task.sha256 != then["data_sha256"]:
        raise CannotReplay(
            f"the items, labels, numbers or groups that run {recorded.id} read have changed since"
        )
    judged = []
    tables = [
        ResultTable(
            "folds",
            ("item_id", "fold", "group_key"),
            1,
            db.execute(
                "select item_id, fold, group_key from folds where run_id = ? order by item_id",
                (recorded.id,),
            ).fetchall(),
            fold_rows(task),
        )
    ]
    metrics = []
    for source in sources:
        judge = Judge(task.target, task.folds, task.settings, task.weights)
        blocks = list(judge_space(db, source.name, task, task.settings.ks[-1]))
        for block in blocks:
            judge.add(block)
        rows = list(metric_rows(task.target, task.folds, judge.judged, task.settings))
        judged.append(judge.judged)
        metrics.append(rows)
        tables += _tables(db, recorded.id, source, task, blocks, judge.judged, rows)
    sha256 = result_hash(task, judged, metrics)
    return Again(tables, lambda: sha256)


def _sources(db: dbapi.Connection, recorded: RecordedRun) -> list[RunInput]:
    """The spaces that the run read, by their present names."""
    rows = db.execute(
        "select s.name, s.id, s.generation, s.generation_token from run_inputs i"
        " join spaces s on s.id = i.space_id where i.run_id = ? and i.kind = 'space' order by i.id",
        (recorded.id,),
    ).fetchall()
    if len(rows) < len(recorded.parameters["spaces"]):
        raise CannotReplay(f"a space that run {recorded.id} read is deleted")
    return [
        RunInput("space", name, space_id=space_id, generation=generation, generation_token=token)
        for name, space_id, generation, token in rows
    ]


def _thresholds(then: dict[str, Any], sources: list[RunInput]) -> dict[str, float] | None:
    """Those recorded, by the present names of their spaces."""
    recorded = then.get("duplicate_thresholds")
    if recorded is None:
        return None
    return {
        source.name: recorded[name] for source, name in zip(sources, then["spaces"], strict=True)
    }


def _tables(
    db: dbapi.Connection,
    run_id: int,
    source: RunInput,
    task: Task,
    blocks: list[Voters],
    judged: Judged,
    metrics: list[MetricRow],
) -> Iterator[ResultTable]:
    """What the run stored of a space, beside what came out again."""
    key = {"run": run_id, "space": source.space_id}
    yield ResultTable(
        f"cv_neighbors of {source.name}",
        ("item_id", "neighbor_ids", "distances"),
        1,
        db.execute(
            "select item_id, neighbor_ids, distances from cv_neighbors"
            " where run_id = :run and space_id = :space order by item_id",
            key,
        ),
        (row for block in _in_order(blocks) for row in voter_rows(task, block)),
        {"neighbor_ids": "<i8", "distances": "<f8"},
    )
    yield ResultTable(
        f"cv_predictions of {source.name}",
        ("k", "weighting", "item_id", "fold", "y_true", "y_pred", "score"),
        3,
        db.execute(
            "select k, weighting, item_id, fold, y_true, y_pred, score from cv_predictions"
            " where run_id = :run and space_id = :space order by k, weighting, item_id",
            key,
        ),
        (
            row
            for at in range(len(task.settings.ks))
            for weighting in sorted(task.settings.weightings)
            for row in prediction_rows(task, judged, at, weighting)
        ),
    )
    yield ResultTable(
        f"cv_metrics of {source.name}",
        ("k", "weighting", "fold", "metric", "value", "reason"),
        4,
        db.execute(
            "select k, weighting, ifnull(fold, -1), metric, value, reason from cv_metrics"
            " where run_id = :run and space_id = :space order by 1, 2, 3, 4",
            key,
        ),
        sorted(
            (row.k, row.weighting, -1 if row.fold is None else row.fold, *row[3:])
            for row in metrics
        ),
    )


def _in_order(blocks: list[Voters]) -> Iterator[Voters]:
    """The voters of one item after the other, by item."""
    rows = np.concatenate([block.rows for block in blocks])
    which = np.repeat(np.arange(len(blocks)), [len(block.rows) for block in blocks])
    within = np.concatenate([np.arange(len(block.rows)) for block in blocks])
    for at in np.argsort(rows).tolist():
        block, place = blocks[which[at]], within[at]
        yield block.take(slice(place, place + 1))
