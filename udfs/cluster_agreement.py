"""How much two labellings of the same items agree: the adjusted Rand index and mutual information.

scikit-learn computes both. Its expected mutual information visits every pair of clusters, which for a
million items in a thousand clusters takes minutes, in one call that nothing can end. Here pairs of
clusters of the same two sizes, whose terms are the same, are visited once: the same number in seconds.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Counts = NDArray[np.int64]


@dataclass(frozen=True, slots=True)
class Overlaps:
    """Which clusters of two labellings share items, and how many: a sparse contingency table.

    labels_a, (ca,), and labels_b, (cb,), are the distinct labels, ascending; rows, columns and counts, (p,),
    the pairs that share an item, by their places in them; sizes_a and sizes_b the sums over the pairs.
    """

    labels_a: Counts
    labels_b: Counts
    rows: Counts
    columns: Counts
    counts: Counts
    sizes_a: Counts
    sizes_b: Counts


def overlaps(a: Counts, b: Counts) -> Overlaps:
    """The overlaps of two labellings, (n,) each, of the same items in the same order."""
    labels_a, places_a = np.unique(a, return_inverse=True)
    labels_b, places_b = np.unique(b, return_inverse=True)
    width = max(1, len(labels_b))
    codes, counts = np.unique(places_a.astype(np.int64) * width + places_b, return_counts=True)
    return Overlaps(
        labels_a,
        labels_b,
        codes // width,
        codes % width,
        counts,
        np.bincount(places_a, minlength=len(labels_a)),
        np.bincount(places_b, minlength=len(labels_b)),
    )


def adjusted_rand(a: Counts, b: Counts) -> float | None:
    """The adjusted Rand index (Hubert and Arabie, 1985), by scikit-learn; None for fewer than 2 items."""
    from sklearn.metrics import adjusted_rand_score

    return float(adjusted_rand_score(a, b)) if len(a) > 1 else None


def adjusted_mutual_information(
    table: Overlaps, poll: Callable[[], None] = lambda: None
) -> float | None:
    """The adjusted mutual information (Vinh, Epps and Bailey, 2010), normalised by the mean entropy.

    scikit-learn's `adjusted_mutual_info_score`, also where it is a matter of definition: 1 when neither
    labelling divides the items, 0 when only one does. None for fewer than 2 items.
    """
    n = int(table.counts.sum())
    if n < 2:
        return None
    if len(table.labels_a) == 1 or len(table.labels_b) == 1:
        return float(len(table.labels_a) == len(table.labels_b))
    share = table.counts / n
    by_chance = (table.sizes_a[table.rows] / n) * (table.sizes_b[table.columns] / n)
    information = float(np.sum(share * np.log(share / by_chance)))
    expected = expected_mutual_information(table.sizes_a, table.sizes_b, poll)
    most = (_entropy(table.sizes_a) + _entropy(table.sizes_b)) / 2
    # Both differences are 0 when every labelling of these sizes is the same one, such as all items apart.
    return _nonzero(information - expected) / _nonzero(most - expected)


def expected_mutual_information(
    sizes_a: Counts, sizes_b: Counts, poll: Callable[[], None] = lambda: None
) -> float:
    """The mean mutual information, in nats, of all pairs of labellings with clusters of these sizes.

    The overlap of a cluster of x items with one of y among n is hypergeometric; Vinh, Epps and Bailey
    (2010), equation 24a. Overlaps that come up with less than e**-50 of all chances are left out.
    """
    from scipy.special import gammaln

    n = int(sizes_a.sum())
    log_factorial = gammaln(np.arange(n + 1) + 1.0)
    y, times_y = np.unique(sizes_b, return_counts=True)
    total = 0.0
    for x, times_x in zip(*np.unique(sizes_a, return_counts=True), strict=True):
        poll()
        least, most = _likely_overlaps(x, y, n)
        widths = most - least + 1
        # One row of terms for each y, all in one array: each y as often as its row is wide.
        each_y = np.repeat(y, widths)
        first = np.repeat(least - (np.cumsum(widths) - widths), widths)
        overlap = first + np.arange(len(each_y))
        log_probability = (
            (log_factorial[x] + log_factorial[n - x] - log_factorial[n])
            + (log_factorial[each_y] + log_factorial[n - each_y])
            - (log_factorial[overlap] + log_factorial[x - overlap])
            - (log_factorial[each_y - overlap] + log_factorial[n - x - each_y + overlap])
        )
        information = overlap / n * np.log(overlap / x * (n / each_y))
        terms = np.repeat(times_y, widths) * information * np.exp(log_probability)
        total += float(times_x) * float(np.sum(terms))
    return total


# The tails of a hypergeometric distribution that may be left out: e**-_TAIL.
_TAIL = 50.0


def _likely_overlaps(x: np.int64, y: Counts, n: int) -> tuple[Counts, Counts]:
    """The least and the largest overlap, from 1, of x and each of y items among n that count.

    Bernstein's inequality, which Hoeffding (1963) shows to hold for draws without replacement, too: a
    deviation of t from the mean m has a chance of at most exp(-t**2 / (2 (m + t / 3))).
    """
    mean = x * (y / n)
    deviation = _TAIL / 3 + np.sqrt((_TAIL / 3) ** 2 + 2 * _TAIL * mean)
    least = np.maximum(np.floor(mean - deviation).astype(np.int64), np.maximum(1, x + y - n))
    most = np.minimum(np.ceil(mean + deviation).astype(np.int64), np.minimum(x, y))
    return least, most


def _entropy(sizes: Counts) -> float:
    share = sizes / sizes.sum()
    return float(-np.sum(share * np.log(share)))


def _nonzero(difference: float) -> float:
    """The difference, or the smallest one of its sign: as scikit-learn does against 0 / 0."""
    smallest = float(np.finfo(np.float64).eps)
    return min(difference, -smallest) if difference < 0 else max(difference, smallest)
