"""The votes of neighbours in bulk: what `vote`, `vote_share` and `vote_value` give, for every k at once.

Going through an item's neighbours once, the nearest first, each k is answered when it is reached. The
aggregates add weights without rounding, so that equal votes are equal in whatever order rows come; here
sums are carried in two numbers of float64 (Dekker, 1971), 106 bits, and rounded when they are compared.
Votes are given within blocks of items, so that memory stays small.
"""

import math
from typing import NamedTuple

import numpy as np
from numba import njit
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Numbers = NDArray[np.float64]

# How neighbours are weighted: as by `vote`, or each by a number of its own.
UNIFORM, DISTANCE, SOFTMAX, OWN = range(4)


class LabelVotes(NamedTuple):
    """Of each k and item, (q, m): the winning label's code, -1 for none; its share of the weight, NaN for
    none; and the place of the true label among those with weight, from 1, 0 where it has none."""

    labels: NDArray[np.int32]
    shares: Numbers
    places_of_truth: NDArray[np.int32]


def vote_labels(
    labels: Ids,
    distances: Numbers,
    truth: Ids,
    ks: Ids,
    n_labels: int,
    weighting: int,
    temperature: float,
    own: Numbers | None = None,
) -> LabelVotes:
    """The votes for labels of m items.

    labels, distances: (m, w), of the neighbours, nearest first; behind them labels are -1. Labels are
    codes from 0 in the order in which ties are broken. truth: (m,), the items' own. ks: (q,), ascending.
    own: (m, w), for OWN: weights of at least 0, NaN for a neighbour without a vote.
    """
    shape = len(ks), len(labels)
    found = LabelVotes(np.empty(shape, np.int32), np.empty(shape), np.empty(shape, np.int32))
    _vote_labels(
        labels,
        distances,
        distances if own is None else own,
        truth,
        ks,
        n_labels,
        weighting,
        temperature,
        *found,
    )
    return found


def vote_values(
    values: Numbers,
    distances: Numbers,
    ks: Ids,
    weighting: int,
    temperature: float,
    own: Numbers | None = None,
) -> Numbers:
    """The weighted mean of the neighbours' values for each k and item, (q, m).

    NaN without a vote, infinite where a sum is too large for a number.

    values: (m, w), NaN behind the last neighbour; the rest as in `vote_labels`.
    """
    found = np.empty((len(ks), len(values)))
    _vote_values(
        values, distances, distances if own is None else own, ks, weighting, temperature, found
    )
    return found


def average_precision(labels: Ids, truth: Ids, relevant: Ids, ks: Ids) -> Numbers:
    """How well the first k neighbours retrieve items of the same label, for each k and item, (q, m).

    The mean of the precision at each neighbour of the item's own label, where the neighbours that are
    lacking count 0: sum of P(i) rel(i) for i = 1 to k, divided by min(relevant, k) (Weyand et al., Google
    Landmarks Dataset v2, CVPR 2020, equation 1). relevant: (m,), how many items of that label there were
    to find; NaN where there is none.
    """
    found = np.empty((len(ks), len(labels)))
    _average_precision(labels, truth, relevant, ks, found)
    return found


@njit(cache=True, nogil=True, error_model="numpy")
def _add(high: float, low: float, number: float) -> tuple[float, float]:
    """A sum in two parts, plus a number; the first part is always the rounded sum."""
    total = high + number
    back = total - high
    rest = low + ((high - (total - back)) + (number - back))
    rounded = total + rest
    return rounded, rest - (rounded - total)


@njit(cache=True, nogil=True, error_model="numpy")
def _weigh(
    distances: Numbers, own: Numbers, weighting: int, temperature: float, out: Numbers
) -> None:
    """The weights of one item's voters, nearest first, as `vote` has them."""
    n = len(out)
    for j in range(n):
        if weighting == 0:
            out[j] = 1.0
        elif weighting == 1:
            out[j] = 1.0 / distances[j]
        elif weighting == 2:
            out[j] = math.exp((distances[0] - distances[j]) / temperature)
        else:
            out[j] = own[j]
    if weighting == 1 and n > 0 and out[0] == np.inf:
        # An exact match leaves nothing to the others.
        for j in range(n):
            out[j] = 1.0 if out[j] == np.inf else 0.0


@njit(cache=True, nogil=True, error_model="numpy")
def _vote_labels(
    labels: Ids,
    distances: Numbers,
    own: Numbers,
    truth: Ids,
    ks: Ids,
    n_labels: int,
    weighting: int,
    temperature: float,
    winners: NDArray[np.int32],
    shares: Numbers,
    places_of_truth: NDArray[np.int32],
) -> None:
    high, low = np.zeros(n_labels), np.zeros(n_labels)
    nearest = np.empty(n_labels)
    has_voted = np.zeros(n_labels, np.bool_)
    voted = np.empty(n_labels, np.int64)
    weights = np.empty(labels.shape[1])
    for i in range(len(labels)):
        n = 0
        while n < labels.shape[1] and labels[i, n] >= 0:
            n += 1
        _weigh(distances[i], own[i], weighting, temperature, weights[:n])
        n_voted = 0
        rank = 0
        for q in range(len(ks)):
            while rank < min(n, ks[q]):
                label, weight = labels[i, rank], weights[rank]
                if not math.isnan(weight):  # which is no vote
                    if not has_voted[label]:
                        has_voted[label] = True
                        voted[n_voted] = label
                        n_voted += 1
                        nearest[label] = distances[i, rank]
                    high[label], low[label] = _add(high[label], low[label], weight)
                rank += 1
            total, rest = 0.0, 0.0
            best = -1
            for v in range(n_voted):
                label = voted[v]
                total, rest = _add(total, rest, high[label])
                if best < 0 or _is_before(label, best, high, nearest):
                    best = label
            if total == 0:
                winners[q, i], shares[q, i], places_of_truth[q, i] = -1, np.nan, 0
                continue
            winners[q, i], shares[q, i] = best, high[best] / total
            place = 0
            if has_voted[truth[i]] and high[truth[i]] > 0:
                place = 1
                for v in range(n_voted):
                    if _is_before(voted[v], truth[i], high, nearest):
                        place += 1
            places_of_truth[q, i] = place
        for v in range(n_voted):
            high[voted[v]] = low[voted[v]] = 0.0
            has_voted[voted[v]] = False


@njit(cache=True, nogil=True, error_model="numpy")
def _is_before(label: int, other: int, sums: Numbers, nearest: Numbers) -> bool:
    """Whether one label wins over another: by weight, then the nearest voter, then the label."""
    if sums[label] != sums[other]:
        return bool(sums[label] > sums[other])
    if nearest[label] != nearest[other]:
        return bool(nearest[label] < nearest[other])
    return label < other


@njit(cache=True, nogil=True, error_model="numpy")
def _vote_values(
    values: Numbers,
    distances: Numbers,
    own: Numbers,
    ks: Ids,
    weighting: int,
    temperature: float,
    found: Numbers,
) -> None:
    weights = np.empty(values.shape[1])
    for i in range(len(values)):
        n = 0
        while n < values.shape[1] and not math.isnan(values[i, n]):
            n += 1
        _weigh(distances[i], own[i], weighting, temperature, weights[:n])
        top, top_rest, total, rest = 0.0, 0.0, 0.0, 0.0
        rank = 0
        for q in range(len(ks)):
            while rank < min(n, ks[q]):
                weight = weights[rank]
                if not math.isnan(weight):
                    top, top_rest = _add(top, top_rest, weight * values[i, rank])
                    total, rest = _add(total, rest, weight)
                rank += 1
            if not (math.isfinite(top) and math.isfinite(total)):
                found[q, i] = np.inf
            else:
                found[q, i] = top / total if total != 0 else np.nan


@njit(cache=True, nogil=True, error_model="numpy")
def _average_precision(labels: Ids, truth: Ids, relevant: Ids, ks: Ids, found: Numbers) -> None:
    for i in range(len(labels)):
        hits, total = 0, 0.0
        rank = 0
        for q in range(len(ks)):
            while rank < min(labels.shape[1], ks[q]):
                if labels[i, rank] == truth[i]:
                    hits += 1
                    total += hits / (rank + 1)
                rank += 1
            most = min(relevant[i], ks[q])
            found[q, i] = total / most if most > 0 else np.nan
