"""The evaluation as a run: reads its task, finds voters, lets them vote, writes what came out.

A run that is stopped goes on where it was: of a space whose voters are all stored, they are not searched
for again.
"""

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

import numpy as np

from nearsql.pipeline.console import UserError, progress, say
from nearsql.pipeline.estimate import duration_in_words, size_in_words
from nearsql.pipeline.evaluate.judge import Judge, Judged, LabelPredictions
from nearsql.pipeline.evaluate.metrics import MetricRow, metric_rows
from nearsql.pipeline.evaluate.settings import FOLDS, KS, TEMPERATURE, WEIGHTINGS, settings
from nearsql.pipeline.evaluate.store import (
    ROWS_A_WRITE,
    fold_rows,
    prediction_rows,
    stored_voters,
    voter_rows,
    write_folds,
    write_metrics,
    write_predictions,
    write_voters,
)
from nearsql.pipeline.evaluate.targets import Labels, find_detect_run, needs_detector
from nearsql.pipeline.evaluate.task import Task, parameters_of, rare_labels, read_task
from nearsql.pipeline.row_hash import RowHash
from nearsql.pipeline.run_spaces import add_runs_read, refuse_if_changed
from nearsql.pipeline.runs import Run, RunInput, immediate, run, run_input, space_input
from nearsql.pipeline.within import within_ids, within_parameters
from nearsql.udfs import dbapi
from nearsql.udfs.evaluation_neighbors import Voters, voters
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.search.memory import TooLarge
from nearsql.udfs.search.neighbors import nearest
from nearsql.udfs.search.stored_graph import noting_graph_runs
from nearsql.udfs.spaces import find_space

KIND = "evaluate"
# What the result depends on, besides what every run's does.
PACKAGES = ("faiss-cpu", "numba", "scikit-learn", "scipy")
# For the forecast: queries timed, bytes of a prediction with its places in indexes, and how many are
# written in a second.
_SAMPLE = 256
_BYTES_A_ROW = 110
_ROWS_A_SECOND = 200_000
# Shorter work is done before its forecast is read.
_WORTH_SAYING = 3.0
# Voters written in one transaction.
_VOTERS_A_WRITE = 4_000_000


@dataclass(frozen=True, slots=True)
class Evaluation:
    """How it went. metrics: of each space by name. counts: items, groups, labels, unpredicted."""

    run_id: int
    spaces: list[str]
    metrics: dict[str, list[MetricRow]]
    thresholds: dict[str, float]
    counts: dict[str, int | float] = field(default_factory=dict)
    timings: dict[str, float] = field(default_factory=dict)
    graph_run: int | None = None


def evaluate(
    db: dbapi.Connection,
    spaces: Sequence[str],
    *,
    label: str | None = None,
    target: str | None = None,
    ks: Sequence[int] = KS,
    weightings: Sequence[str] = WEIGHTINGS,
    temperature: float = TEMPERATURE,
    folds: int = FOLDS,
    group_by: str | None = None,
    detect_run: int | None = None,
    within: str | None = None,
    seed: int = 0,
    quiet: bool = True,
) -> Evaluation:
    """Predicts a label or a number of every item from its nearest items of other folds, in each space.

    Exactly one of label (the name of a label) and target (a number: see `read_target`) is given. The
    items are those that have it and are in all the spaces, and in `within` as `--within` has it.
    detect_run: whose metrics or losses are read, the newest unless given. group_by: what may not be
    divided between folds, `duplicates` or see `groups_by`.

    Raises LookupError for a space that is not there, and UserError for what cannot be judged, and when a
    space changes meanwhile.
    """
    chosen = settings(ks, weightings, temperature, folds)
    if (label is None) == (target is None):
        raise UserError("give either --label NAME or --target NUMBER, what is to be predicted")
    if not spaces:
        raise UserError("name the spaces to evaluate: see `select name from spaces`")
    if not 0 <= seed < 2**32:
        raise UserError(f"--seed must be from 0 to {2**32 - 1}, not {seed}")
    sources = [space_input(db, name) for name in dict.fromkeys(spaces)]
    if needs_detector(target, chosen.weightings):
        detect_run = find_detect_run(db, detect_run)
    elif detect_run is not None:
        raise UserError(
            "--detect-run is for targets and weightings that a detector measured, and there are none"
        )
    _refuse_inner_products(db, sources, chosen.weightings)
    only = within_ids(db, within)
    asked = {
        "spaces": [source.name for source in sources],
        "label": label,
        "target": target,
        "detect_run": detect_run,
        "group_by": group_by,
    }
    with noting_graph_runs() as graphs:
        task = read_task(
            db,
            sources,
            chosen,
            label=label,
            target=target,
            detect_run=detect_run,
            group_by=group_by,
            within=only,
            seed=seed,
            poll=Poll(db.apsw),
        )
        inputs = [*sources, *([] if detect_run is None else [run_input(db, detect_run)])]
        parameters = parameters_of(task, asked, within_parameters(only))
        if not quiet:
            _say_what(task)
            _forecast(db, sources, task)
        with run(
            db,
            KIND,
            parameters=parameters,
            seed=seed,
            inputs=inputs,
            packages=PACKAGES,
            resume=True,
        ) as current:
            metrics = _fill(current, sources, task, quiet)
            with immediate(db):
                for source in sources:
                    refuse_if_changed(db, source)
                    assert source.space_id is not None
                    write_metrics(db, current.id, source.space_id, metrics[source.name])
                add_runs_read(current, graphs, "neighbors")
                current.finish()
    return Evaluation(
        current.id,
        [source.name for source in sources],
        metrics,
        task.thresholds,
        dict(current.counts),
        dict(current.timings),
        max(graphs, default=None),
    )


def result_hash(task: Task, judged: Sequence[Judged], metrics: Sequence[list[MetricRow]]) -> str:
    """The SHA-256 of a result: folds, then of each space voters, predictions and metrics."""
    digest = RowHash()
    for row in fold_rows(task):
        digest.add(row)
    for of_space, rows in zip(judged, metrics, strict=True):
        digest.add((of_space.digests.tobytes(),))
        for weighting, found in of_space.by_weighting.items():
            if isinstance(found, LabelPredictions):
                codes, shares = found.codes.astype("<i4"), found.shares.astype("<f8")
                digest.add((weighting, codes.tobytes(), shares.tobytes()))
            else:
                digest.add((weighting, found.values.astype("<f8").tobytes()))
        for metric in rows:
            digest.add(metric)
    return digest.hexdigest()


def judge_space(db: dbapi.Connection, space: str, task: Task, k: int) -> Iterator[Voters]:
    """The voters of each of the task's items in a space, found anew."""
    return voters(db.apsw, find_space(db.apsw, space), task.items, task.folds, k)


def _fill(
    current: Run, sources: Sequence[RunInput], task: Task, quiet: bool
) -> dict[str, list[MetricRow]]:
    """Computes and writes all but the metrics; gives those of each space."""
    db = current.db
    with immediate(db), current.timed("write folds"):
        write_folds(db, current.id, fold_rows(task))
    all_judged, metrics = [], {}
    with progress("items evaluated", len(sources) * len(task.items), quiet=quiet) as bar:
        for source in sources:
            judge = Judge(task.target, task.folds, task.settings, task.weights)
            for block in _voters(current, source, task):
                with current.timed("vote"):
                    judge.add(block)
                bar.advance(len(block.rows))
            with current.timed("measure"):
                rows = list(metric_rows(task.target, task.folds, judge.judged, task.settings))
            with current.timed("write predictions"):
                _write_predictions(current, source, task, judge.judged)
            all_judged.append(judge.judged)
            metrics[source.name] = rows
    current.counts |= _counts(task, all_judged)
    current.result_sha256 = result_hash(task, all_judged, list(metrics.values()))
    return metrics


def _voters(current: Run, source: RunInput, task: Task) -> Iterator[Voters]:
    """The voters of all items in a space, which are stored as they are found."""
    db = current.db
    assert source.space_id is not None
    if current.is_resumed:
        stored = stored_voters(db, current.id, source.space_id, task)
        if stored is not None:
            yield from stored
            return
    found = judge_space(db, source.name, task, task.settings.ks[-1])
    gathered: list[Voters] = []
    n_gathered = 0
    while True:
        with current.timed("find voters"):
            block = next(found, None)
        if block is not None:
            gathered.append(block)
            n_gathered += block.neighbors.size
        if gathered and (block is None or n_gathered >= _VOTERS_A_WRITE):
            with current.timed("write voters"), immediate(db):
                refuse_if_changed(db, source)
                for one in gathered:
                    write_voters(db, current.id, source.space_id, voter_rows(task, one))
            gathered, n_gathered = [], 0
        if block is None:
            return
        yield block


def _write_predictions(current: Run, source: RunInput, task: Task, judged: Judged) -> None:
    db = current.db
    assert source.space_id is not None
    for weighting in task.settings.weightings:
        for at in range(len(task.settings.ks)):
            rows = list(prediction_rows(task, judged, at, weighting))
            for start in range(0, len(rows), ROWS_A_WRITE):
                with immediate(db):
                    refuse_if_changed(db, source)
                    some = rows[start : start + ROWS_A_WRITE]
                    write_predictions(db, current.id, source.space_id, some)


def _counts(task: Task, judged: Sequence[Judged]) -> dict[str, int | float]:
    counts: dict[str, int | float] = {"items": len(task.items)}
    if task.groups is not None:
        counts["groups"] = len({g for g in task.groups if g is not None}) + task.groups.count(None)
    if isinstance(task.target, Labels):
        counts["labels"] = len(task.target.names)
    unpredicted = 0
    for of_space in judged:
        for found in of_space.by_weighting.values():
            unpredicted += int(
                (found.codes < 0).sum()
                if isinstance(found, LabelPredictions)
                else np.isnan(found.values).sum()
            )
    if unpredicted:
        counts["unpredicted"] = unpredicted
    return counts


def _refuse_inner_products(
    db: dbapi.Connection, sources: Sequence[RunInput], weightings: Sequence[str]
) -> None:
    if "distance" not in weightings:
        return
    for source in sources:
        if find_space(db.apsw, source.name).metric == "ip":
            raise UserError(
                f"--weighting distance: space '{source.name}' has the metric ip, and inner products are"
                " not distances: take --weighting uniform,softmax"
            )


def _say_what(task: Task) -> None:
    rare = rare_labels(task)
    if rare:
        say(
            f"{rare:,} labels have fewer than {task.settings.folds} items, so that not every fold has"
            " one of them"
        )
    for space, threshold in task.thresholds.items():
        say(f"{space}: items within {threshold:.6g} of each other are duplicates, and share a fold")


def _forecast(db: dbapi.Connection, sources: Sequence[RunInput], task: Task) -> None:
    """Says how many rows it will be, and by a sample of the items how long it will take."""
    n, k = len(task.items), task.settings.ks[-1]
    n_rows = len(sources) * n * len(task.settings.ks) * len(task.settings.weightings)
    size = len(sources) * n * (k * 16 + 40) + n_rows * _BYTES_A_ROW
    line = f"{n:,} items, {n_rows:,} predictions, about {size_in_words(size)} in the file"
    seconds = n_rows / _ROWS_A_SECOND
    sample = task.items[np.linspace(0, n - 1, min(n, _SAMPLE)).astype(np.int64)]
    try:
        for source in sources:
            matrix = load_matrix(db.apsw, find_space(db.apsw, source.name))
            queries = matrix.vectors[matrix.positions(sample)]
            nearest(matrix, queries[:1], k)  # what the first search alone has to prepare
            start = time.perf_counter()
            nearest(matrix, queries, k, exclude=sample)
            seconds += (time.perf_counter() - start) * n / len(sample)
    except TooLarge as error:
        say(f"{line}; the vectors are read from the file over and over: {error}")
    else:
        if seconds >= _WORTH_SAYING:
            say(f"{line}, {duration_in_words(seconds)}")
