"""Outliers: items that are far from their own neighbours."""

import math
from dataclasses import dataclass

import numpy as np

from nearsql.udfs.findings.thresholds import modified_z_scores, outlying_value
from nearsql.udfs.search.query_blocks import Distances, Ids


@dataclass(frozen=True, slots=True)
class Outliers:
    """How far out each of n items is; all arrays are (n,).

    order: places, the farthest first, equal ones by place. threshold: the distance from which on an item
    is an outlier; None when there is none, because half of the items are equally far or none has a
    neighbour at another place.
    """

    distances: Distances
    scores: Distances  # modified z-scores, NaN where undefined
    order: Ids
    threshold: float | None


def find_outliers(distances: Distances) -> Outliers:
    """Ranks items by the distance to their k-th nearest neighbour.

    distances: (n, k), ascending, of the k nearest others of each item. The distance to the k-th is the
    score of Ramaswamy, Rastogi and Shim (2000), "Efficient Algorithms for Mining Outliers from Large Data
    Sets". Few outliers that lie together are still found: they have fewer than k others beside them.

    The threshold is by modified z-scores of the distances' logarithms, which are ratios of distances and
    spread evenly around their middle; distances themselves have a long tail. Items at distance 0 from k
    others have no score: they are no outliers.
    """
    farthest = distances[:, -1] if distances.shape[1] else np.zeros(len(distances))
    logs = logarithms(farthest)
    limit = outlying_value(logs)
    return Outliers(
        distances=farthest,
        scores=modified_z_scores(logs),
        order=np.argsort(-farthest, kind="stable"),
        threshold=None if limit is None else math.exp(limit),
    )


def logarithms(values: Distances) -> Distances:
    """The logarithms of values, (n,), of at least 0; NaN for those that are 0."""
    logs = np.full(len(values), np.nan)
    np.log(values, out=logs, where=values > 0)
    return logs
