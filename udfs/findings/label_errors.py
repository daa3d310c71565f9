"""Label errors: items whose neighbours vote for another label than the one they have."""

from dataclasses import dataclass

import numpy as np

from nearsql.udfs.findings.thresholds import class_thresholds
from nearsql.udfs.search.query_blocks import Distances, Ids


@dataclass(frozen=True, slots=True)
class LabelErrors:
    """The m items whose neighbours disagree with them, the surest first; all arrays are (m,).

    rows: the item's place. suggested: the number of the label with the most votes. confidence: the share
    of votes against the item's own label. nearest: the distance to the nearest neighbour with the
    suggested label. own_usual, suggested_usual: the share that either label usually gets, t_j (see
    `class_thresholds`).

    count: how many wrong labels there are by confident learning's estimate. The first so many rows
    count as errors.
    """

    rows: Ids
    suggested: Ids
    confidence: Distances
    nearest: Distances
    own_usual: Distances
    suggested_usual: Distances
    count: int


def find_label_errors(
    given: Ids, places: Ids, distances: Distances, weights: Distances, n_labels: int
) -> LabelErrors:
    """The items whose own label gets fewer votes from their neighbours than another one.

    given: (n,), the number of each item's label, in the labels' order. places, distances, weights: (n, k),
    its neighbours, which exclude itself, so that the vote is leave-one-out.

    They are ranked by the share of the votes for the item's own label, least first: self-confidence, one
    of the scores of Kuan and Mueller (2022), "Model-agnostic label quality scoring to detect real-world
    label errors". Of items with the same share, that with the nearer neighbour of the suggested label
    comes first: it is the less likely to be an outlier, of which its neighbours know nothing.

    Equal votes go to the label of the nearer neighbour, then to the first, as in the SQL function `vote`.
    """
    n = len(given)
    row, label, share, nearest = _tallies(given[places], distances, weights, n_labels)
    is_own = label == given[row]
    own = np.zeros(n)
    own[row[is_own]] = share[is_own]
    usual = class_thresholds(own, given, n_labels)
    # The first tally of each row in this order is its winner.
    order = np.lexsort((label, nearest, -share, row))
    row, label, share, nearest = row[order], label[order], share[order], nearest[order]
    _, first = np.unique(row, return_index=True)
    wins = first[label[first] != given[row[first]]]
    best = wins[np.lexsort((row[wins], nearest[wins], own[row[wins]]))]
    is_sure = share >= usual[label]
    return LabelErrors(
        rows=row[best],
        suggested=label[best],
        confidence=1 - own[row[best]],
        nearest=nearest[best],
        own_usual=usual[given[row[best]]],
        suggested_usual=usual[label[best]],
        count=min(len(best), _estimated_errors(given, row[is_sure], label[is_sure], n_labels)),
    )


def _estimated_errors(given: Ids, row: Ids, label: Ids, n_labels: int) -> int:
    """How many of the labels given are wrong, by confident learning (Northcutt et al. 2021).

    row, label: the labels whose share reaches what is usual of them, by item and then by share. Each
    item is counted under the first of its own: the confident joint. Of label i, the part that is counted
    under another one is taken to be the part of all items with label i that are wrong.
    """
    counted, first = np.unique(row, return_index=True)
    labels = given[counted]
    all_counted = np.bincount(labels, minlength=n_labels)
    elsewhere = np.bincount(labels, weights=label[first] != labels, minlength=n_labels)
    part = np.divide(elsewhere, all_counted, out=np.zeros(n_labels), where=all_counted > 0)
    return round(float(part @ np.bincount(given, minlength=n_labels)))


def _tallies(
    votes: Ids, distances: Distances, weights: Distances, n_labels: int
) -> tuple[Ids, Ids, Distances, Distances]:
    """A row for each label that neighbours of an item have, in any order: (the item's place, the label, its
    share of the weight, the distance to the nearest neighbour with it). Items without weight have none."""
    n = len(votes)
    totals = weights.sum(axis=1)
    keys = (np.arange(n)[:, None] * n_labels + votes).ravel()
    order = np.argsort(keys, kind="stable")  # nearest first within each key
    found, first = np.unique(keys[order], return_index=True)
    row, label = np.divmod(found, n_labels)
    sums = np.add.reduceat(weights.ravel()[order], first) if len(first) else np.empty(0)
    nearest = distances.ravel()[order][first]
    has_weight = totals[row] > 0
    row = row[has_weight]
    return row, label[has_weight], sums[has_weight] / totals[row], nearest[has_weight]


def vote_weights(distances: Distances, weighting: str, temperature: float) -> Distances:
    """What the votes of neighbours at these distances, (n, k), weigh, as in the SQL function `vote`.

    uniform: 1. distance: 1 / distance; where some are 0 they take all. softmax: exp(-distance /
    temperature), relative to the nearest.
    """
    if weighting == "uniform":
        return np.ones_like(distances)
    if weighting == "softmax":
        nearest = distances.min(axis=1, initial=np.inf, keepdims=True)
        return np.exp((nearest - distances) / temperature)
    with np.errstate(divide="ignore"):
        inverse = 1 / distances
    is_same = np.isinf(inverse)
    return np.where(is_same.any(axis=1, keepdims=True), is_same.astype(np.float64), inverse)
