"""How good predictions are: the numbers behind the aggregates in `metric_functions` and `nearsql evaluate`.

Sums are added without rounding on the way (math.fsum), so that a result does not depend on the order of
the rows. None is what is not defined; `reason_for` says why.
"""

import math
from collections.abc import Iterable

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError

Counts = NDArray[np.int64]
Numbers = NDArray[np.float64]


def exact_sum(numbers: Iterable[float]) -> float:
    """The sum, rounded once. Raises SqlFunctionError when it is more than a number can be."""
    try:
        found = math.fsum(numbers)
    except (OverflowError, ValueError):  # on the way; of infinities of both signs
        found = math.inf
    if not math.isfinite(found):
        raise SqlFunctionError("the numbers are too large: their sum is no finite number")
    return found


def macro_f1(hits: Iterable[int], true: Iterable[int], predicted: Iterable[int]) -> float | None:
    """The mean over labels of F1, 2 hits / (true + predicted): scikit-learn's f1_score by 'macro'.

    Of each label how often it was predicted where it is true, how often it is true, and how often it was
    predicted; labels that are neither do not count. None without a label.
    """
    scores = [2 * h / (t + p) for h, t, p in zip(hits, true, predicted, strict=True) if t + p]
    return exact_sum(scores) / len(scores) if scores else None


def mae(true: Numbers, predicted: Numbers) -> float | None:
    """The mean absolute error, (n,) each; None for no rows."""
    if not len(true):
        return None
    return exact_sum(np.abs(true - predicted).tolist()) / len(true)


def r2(true: Numbers, predicted: Numbers) -> float | None:
    """The coefficient of determination: 1 for perfect, 0 for no better than the mean of the true values.

    None for fewer than 2 rows, and where all true values are the same (scikit-learn's r2_score gives 0 or
    1 there, which is neither).
    """
    if len(true) < 2 or (true == true[0]).all():
        return None
    residual = exact_sum(np.square(true - predicted).tolist())
    mean = exact_sum(true.tolist()) / len(true)
    total = exact_sum(np.square(true - mean).tolist())
    return 1 - residual / total if total else None


def spearman(true: Numbers, predicted: Numbers) -> float | None:
    """Spearman's rank correlation, equal values sharing their mean rank: scipy.stats.spearmanr.

    None for fewer than 2 rows, and where one side has one value only.
    """
    n = len(true)
    if n < 2:
        return None
    a, b = mean_ranks(true) - (n + 1) / 2, mean_ranks(predicted) - (n + 1) / 2
    spread = exact_sum((a * a).tolist()) * exact_sum((b * b).tolist())
    if not spread:
        return None
    return max(-1.0, min(1.0, exact_sum((a * b).tolist()) / math.sqrt(spread)))


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
