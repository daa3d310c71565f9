"""How good the predictions of a space are, for each k and weighting, by fold and over all."""

import math
from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from nearsql.pipeline.evaluate.judge import Judged, LabelPredictions, ValuePredictions
from nearsql.pipeline.evaluate.settings import Settings
from nearsql.pipeline.evaluate.targets import Labels, Target, Values
from nearsql.udfs import evaluation_metrics

Ids = NDArray[np.int64]

OF_LABELS = ("accuracy", "macro_f1", "top_5_accuracy", "retrieval_map")
OF_NUMBERS = ("mae", "r2", "spearman")


class MetricRow(NamedTuple):
    """One number. fold None: over all items. value None: not defined, for the reason."""

    k: int
    weighting: str
    fold: int | None
    metric: str
    value: float | None
    reason: str | None


def metric_rows(
    target: Target, folds: Ids, judged: Judged, settings: Settings
) -> Iterator[MetricRow]:
    """All metrics of a space."""
    parts: list[tuple[int | None, Ids]] = [(None, np.arange(len(folds)))]
    parts += [(fold, np.flatnonzero(folds == fold)) for fold in range(settings.folds)]
    for weighting, found in judged.by_weighting.items():
        for at, k in enumerate(settings.ks):
            for fold, items in parts:
                if isinstance(target, Labels):
                    assert isinstance(found, LabelPredictions)
                    values = _of_labels(target, judged, found, at, items)
                else:
                    assert isinstance(found, ValuePredictions)
                    values = _of_numbers(target, found, at, items)
                for metric, (value, reason) in values.items():
                    yield MetricRow(k, weighting, fold, metric, value, reason)


def _of_labels(
    target: Labels, judged: Judged, found: LabelPredictions, at: int, items: Ids
) -> dict[str, tuple[float | None, str | None]]:
    true, predicted = target.codes[items], found.codes[at, items]
    n = len(target.names)
    hits = true == predicted
    f1 = evaluation_metrics.macro_f1(
        np.bincount(true[hits], minlength=n).tolist(),
        np.bincount(true, minlength=n).tolist(),
        np.bincount(predicted[predicted >= 0], minlength=n).tolist(),
    )
    precision = judged.precision[at, items]
    precision = precision[~np.isnan(precision)]
    retrieval = math.fsum(precision.tolist()) / len(precision) if len(precision) else None
    reason = None if len(precision) else "no item has another one of its label in the other folds"
    return {
        "accuracy": (int(hits.sum()) / len(items), None),
        "macro_f1": (f1, None),
        "top_5_accuracy": (int(found.in_top[at, items].sum()) / len(items), None),
        "retrieval_map": (retrieval, reason),
    }


def _of_numbers(
    target: Values, found: ValuePredictions, at: int, items: Ids
) -> dict[str, tuple[float | None, str | None]]:
    true, predicted = target.numbers[items], found.values[at, items]
    there = ~np.isnan(predicted)
    true, predicted = true[there], predicted[there]
    values: dict[str, tuple[float | None, str | None]] = {}
    for metric in OF_NUMBERS:
        value = getattr(evaluation_metrics, metric)(true, predicted)
        reason = evaluation_metrics.reason_for(metric, true, predicted) if value is None else None
        values[metric] = value, reason
    return values
