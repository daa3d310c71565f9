"""Where a finding begins: thresholds that are chosen from the data, each by a published rule."""

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search.query_blocks import Distances, Ids

# Cleanlab's Datalab: two items are near-duplicates when they are within this fraction of the median
# distance from an item to its nearest other one.
# https://docs.cleanlab.ai/stable/cleanlab/datalab/guide/issue_type_description.html
NEAR_FRACTION = 0.13
# Iglewicz and Hoaglin, How to Detect and Handle Outliers (1993): a modified z-score above this is an
# outlier. https://www.itl.nist.gov/div898/handbook/eda/section3/eda35h.htm
OUTLIER_Z = 3.5
# The median absolute deviation of a normal distribution, in standard deviations.
_NORMAL_MAD = 0.6745
# What the rounding of 1 - cos may leave between two vectors of one direction.
_ROUNDING = 1e-12


def near_threshold(nearest: Distances) -> float:
    """The distance within which two items are near-duplicates: NEAR_FRACTION of the median of `nearest`.

    nearest: (n,), each item's distance to its nearest other one. Items at distance 0 from another do not
    count, so that many exact copies do not make the rest look far apart. 0 when no items are left: then
    only exact copies are duplicates.
    """
    apart = nearest[nearest > _ROUNDING]
    return float(NEAR_FRACTION * np.median(apart)) if len(apart) else 0.0


def robust_spread(values: NDArray[np.float64]) -> tuple[float, float] | None:
    """(median, MAD) of the finite ones among the values, (n,).

    MAD is the median absolute deviation from the median. None when there are no values, or half of them
    are the same, so that it is 0: then nothing can be said of how unusual another value is.
    """
    finite = values[np.isfinite(values)]
    if not len(finite):
        return None
    middle = np.median(finite)
    deviation = np.median(np.abs(finite - middle))
    return (float(middle), float(deviation)) if deviation > 0 else None


def modified_z_scores(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """How far each value, (n,), lies above the median: 0.6745 * (value - median) / MAD.

    NaN for values that are not finite, and for all where the spread is undefined (see `robust_spread`).
    """
    spread = robust_spread(values)
    if spread is None:
        return np.full(len(values), np.nan)
    middle, deviation = spread
    scores = _NORMAL_MAD * (values - middle) / deviation
    return np.where(np.isfinite(values), scores, np.nan)


def outlying_value(values: NDArray[np.float64]) -> float | None:
    """The value of which the modified z-score is OUTLIER_Z; None where the spread is undefined."""
    spread = robust_spread(values)
    return None if spread is None else spread[0] + OUTLIER_Z * spread[1] / _NORMAL_MAD


def class_thresholds(shares: NDArray[np.float64], given: Ids, n_classes: int) -> Distances:
    """How sure of a class the votes are where it is given, (n_classes,): NaN where nothing has it.

    shares: (n,), the share of votes for the item's own label; given: (n,), that label's number. This is
    the threshold t_j of confident learning: the mean predicted probability of class j over the items
    labelled j (Northcutt, Jiang and Chuang 2021, "Confident Learning: Estimating Uncertainty in Dataset
    Labels"). https://doi.org/10.1613/jair.1.12125
    """
    counts = np.bincount(given, minlength=n_classes)
    sums = np.bincount(given, weights=shares, minlength=n_classes)
    return np.divide(sums, counts, out=np.full(n_classes, np.nan), where=counts > 0)
