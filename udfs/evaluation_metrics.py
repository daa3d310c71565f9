"""How good predictions are: the numbers behind the aggregates in `metric_functions` and `nearsql evaluate`.

Sums are added without rounding on the way (math.fsum), so that a result does not depend on the order of
the rows. None is what is not defined; `reason_for` says why.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]


def macro_f1(hits: Iterable[int], true: Iterable[int], predicted: Iterable[int]) -> float | None:
    """The mean over labels of F1, 2 hits / (true + predicted): scikit-learn's f1_score by 'macro'.

    Of each label how often it was predicted where it is true, how often it is true, and how often it was
    predicted; labels that are neither do not count. None without a label.
    """
    scores = [2 * h / (t + p) for h, t, p in zip(hits, true, predicted, strict=True) if t + p]
    return math.fsum(scores) / len(scores) if scores else None


def mae(true: Numbers, predicted: Numbers) -> float | None:
    """The mean absolute error, (n,) each; None for no rows."""
    if not len(true):
        return None
    return math.fsum(np.abs(true - predicted).tolist()) / len(true)


def r2(true: Numbers, predicted: Numbers) -> float | None:
    """The coefficient of determination: 1 for perfect, 0 for no better than the mean of the true values.

    None for fewer than 2 rows, and where all true values are the same (scikit-learn's r2_score gives 0 or
    1 there, which is neither).
    """
    if len(true) < 2 or (true == true[0]).all():
        return None
    residual = math.fsum(np.square(true - predicted).tolist())
    mean = math.fsum(true.tolist()) / len(true)
    total = math.fsum(np.square(true - mean).tolist())
    return 1 - residual / total if total else None


def spearman(true: Numbers, predicted: Numbers) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank: scipy.stats.spearmanr.

    None for fewer than 2 rows, and where one side has one value only.
    """
    n = len(true)
    if n < 2:
        return None
    a, b = mean_ranks(true) - (n + 1) / 2, mean_ranks(predicted) - (n + 1) / 2
    spread = math.fsum((a * a).tolist()) * math.fsum((b * b).tolist())
    if not spread:
        return None
    return max(-1.0, min(1.0, math.fsum((a * b).tolist()) / math.sqrt(spread)))


def mean_ranks(values: Numbers) -> Numbers:
    """The rank of each value from 1, (n,); equal values share the mean of theirs."""
    _, which, counts = np.unique(values, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks: Numbers = (last - (counts - 1) / 2)[which]
    return ranks


def reason_for(metric: str, true: Numbers, predicted: Numbers) -> str:
    """Why mae, r2 or spearman of these rows is None."""
    if not len(true):
        return "no item was predicted: none of the neighbours has a vote"
    if len(true) < 2:
        return "one item is too few"
    which = "true" if (true == true[0]).all() else "predicted"
    return f"all {which} values are the same"
