"""What changed from one detector's run to another, image by image and metric by metric."""

from collections.abc import Iterator
from contextlib import closing
from dataclasses import dataclass
from typing import Any, Literal, cast

import apsw
import numpy as np

from nearsql.udfs.arguments import shown
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.paired_tests import wilcoxon
from nearsql.udfs.run_members import finished_run
from nearsql.udfs.sql_files import read_sql

KIND = "detect"

Better = Literal["higher", "lower"]

# What of `image_metrics` can be compared, and which values are better: None where that depends.
METRICS: dict[str, Better | None] = {
    "mean_iou": "higher",
    "mean_iou_gt": "higher",
    "hit_freq": "higher",
    "dice_score": "higher",
    "tp": "higher",
    "fp": "lower",
    "fn": "lower",
    "flag_cat": "lower",
    "flag_supercat": "lower",
    "mean_conf": None,
    "n_pred": None,
}
# Before the name of a component of the loss, which is better lower.
LOSS = "loss:"

# Differences up to this are none: the last digits of a float32 differ from one device to another.
TOLERANCE = 1e-6

# What needs no ground truth, and so is compared whether or not that has changed.
_OF_PREDICTIONS = ("mean_conf", "n_pred")


@dataclass(frozen=True, slots=True)
class MetricAgreement:
    """A metric of the images that two detector runs judged.

    better: 'higher', 'lower', or None. images: those compared; left_out: those of which one run has no
    value, or whose ground truth was another one. improved, regressed: how many are better and worse in the
    second run, None without a `better`; same: how many are equal. mean_a, mean_b: over the compared
    images; median_difference: of the second run's value minus the first's. reason: why something is None.
    """

    metric: str
    better: Better | None
    images: int
    left_out: int
    improved: int | None
    regressed: int | None
    same: int
    mean_a: float | None
    mean_b: float | None
    median_difference: float | None
    p_value: float | None
    reason: str | None


def check_runs(db: apsw.Connection, run_a: int, run_b: int) -> None:
    """Raises SqlFunctionError unless both are finished detector runs that have an image in common."""
    for run in (run_a, run_b):
        finished_run(db, run, KIND, called="detector runs", lacks="not judged all of its images")
    common = db.execute(
        "select exists (select 1 from image_metrics a join image_metrics b"
        " on b.run_id = ? and b.item_id = a.item_id where a.run_id = ?)",
        (run_b, run_a),
    ).fetchone()
    if cast(Any, common) == (0,):
        raise SqlFunctionError(
            f"runs {run_a} and {run_b} judged no image in common, so that nothing can be compared"
        )


def metrics_of(db: apsw.Connection, run_a: int, run_b: int) -> list[str]:
    """The names of what can be compared: METRICS, and a `loss:` name for each component of either run."""
    components = db.execute(
        "select distinct component from losses where run_id in (?, ?) order by component",
        (run_a, run_b),
    )
    return [*METRICS, *(LOSS + str(component) for (component,) in components)]


def check_metric(db: apsw.Connection, run_a: int, run_b: int, metric: Any) -> str:
    """The metric. Raises SqlFunctionError, naming those there are, for one that neither run has."""
    there = metrics_of(db, run_a, run_b)
    if metric not in there:
        raise SqlFunctionError(f"metric must be one of {', '.join(there)}, not {shown(metric)}")
    return str(metric)


def better(metric: str) -> Better | None:
    """Which values of the metric are better; None where that depends."""
    return "lower" if metric.startswith(LOSS) else METRICS[metric]


def image_changes(
    db: apsw.Connection, run_a: int, run_b: int, metric: str, tolerance: float = TOLERANCE
) -> Iterator[tuple[Any, ...]]:
    """(item, change, value in a, value in b, difference b - a, reason) of the images that both judged.

    change: 'improved', 'regressed', or 'same' up to the tolerance; 'higher' or 'lower' where neither is
    better; None when they cannot be compared, and reason says why.
    """
    arguments = {
        "run_a": run_a,
        "run_b": run_b,
        "metric": metric,
        "component": metric.removeprefix(LOSS) if metric.startswith(LOSS) else None,
        "better": better(metric),
        "tolerance": tolerance,
        "needs_truth": metric not in _OF_PREDICTIONS,
    }
    with closing(db.execute(read_sql(__package__, "detector_diff"), arguments)) as cursor:
        yield from cast(Any, cursor)


def metric_agreement(
    db: apsw.Connection, run_a: int, run_b: int, metric: str, tolerance: float = TOLERANCE
) -> MetricAgreement | None:
    """How much a metric changed over all images, and whether that may be chance.

    None when neither run has a value of it for any image that both judged.
    """
    rows = list(image_changes(db, run_a, run_b, metric, tolerance))
    if all(a is None and b is None for _, _, a, b, _, _ in rows):
        return None
    pairs = [(a, b) for _, change, a, b, _, _ in rows if change is not None]
    values_a, values_b = np.array(pairs, np.float64).reshape(-1, 2).T
    difference = values_b - values_a
    difference[np.abs(difference) <= tolerance] = 0
    n, is_better = len(pairs), better(metric)
    up, down = int((difference > 0).sum()), int((difference < 0).sum())
    improved, regressed = {"higher": (up, down), "lower": (down, up), None: (None, None)}[is_better]
    p_value = wilcoxon(difference)
    reason = None
    if p_value is None:
        reason = (
            "no image differs" if n else "no image has a value in both runs from the same truth"
        )
    return MetricAgreement(
        metric,
        is_better,
        n,
        len(rows) - n,
        improved,
        regressed,
        n - up - down,
        float(values_a.mean()) if n else None,
        float(values_b.mean()) if n else None,
        float(np.median(difference)) if n else None,
        p_value,
        reason,
    )
