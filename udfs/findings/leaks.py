"""Leaks: items with a near-duplicate on the other side of a border, such as that of train and test."""

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from nearsql.udfs.findings.identical import identical_rows, pair_distances, without_rounding
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.neighbors import nearest
from nearsql.udfs.search.query_blocks import Distances, Ids


@dataclass(frozen=True, slots=True)
class Leaks:
    """The m items with a near-duplicate of another value, by place; all arrays are (m,).

    others: the place of the first item of another value with the same content; or else of the nearest, of
    several equally near the first.
    """

    rows: Ids
    others: Ids
    distances: Distances


def find_leaks(
    matrix: Matrix,
    values: Ids,
    threshold: float,
    graph: tuple[Ids, Distances],
    poll: Callable[[], None] | None = None,
    *,
    same: Ids | None = None,
) -> Leaks:
    """For each item with one of another value within the threshold, the nearest of those.

    values: (n,), the number of each item's value, -1 for those without one, which neither leak nor are
    leaked to. graph: `neighbor_graph(matrix, k)` for any k: where it does not tell, the items of other
    values are searched, so that nothing is missed. same: (n,), the place of the first row with the same
    content; such rows leak at any distance.
    """
    n = len(matrix.ids)
    places, distances = graph
    others, measured = np.full(n, -1), np.full(n, np.nan)
    if places.size:
        twins = identical_rows(matrix)
        distances = without_rounding(places, distances, twins)
        has_value = values >= 0
        is_leak = has_value[places] & (values[places] != values[:, None]) & has_value[:, None]
        is_leak &= distances <= threshold
        rows = np.flatnonzero(is_leak.any(axis=1))
        column = is_leak[rows].argmax(axis=1)
        others[rows], measured[rows] = places[rows, column], distances[rows, column]
        # All k neighbours are within the threshold, and none is of another value: there may be more.
        is_open = (others < 0) & has_value & (distances[:, -1] <= threshold)
        for value in np.unique(values[is_open]) if places.shape[1] < n - 1 else ():
            rows = np.flatnonzero(is_open & (values == value))
            subset = matrix.ids[has_value & (values != value)]
            ids, _ = nearest(matrix, matrix.vectors[rows], 1, subset=subset, poll=poll)
            if ids.shape[1]:
                found = np.searchsorted(matrix.ids, ids[:, 0])
                far = pair_distances(matrix, rows, found, twins)
                is_near = far <= threshold
                others[rows[is_near]], measured[rows[is_near]] = found[is_near], far[is_near]
        if same is not None:
            rows, beside = _same_content(values, same)
            others[rows], measured[rows] = beside, pair_distances(matrix, rows, beside, twins)
    rows = np.flatnonzero(others >= 0)
    return Leaks(rows, others[rows], measured[rows])


def _same_content(values: Ids, same: Ids) -> tuple[Ids, Ids]:
    """Rows that share their content with one of another value, and the first such one of each."""
    counts = np.bincount(same, minlength=len(same))
    members = defaultdict(list)
    for row in np.flatnonzero((values >= 0) & (counts[same] > 1)).tolist():
        members[int(same[row])].append(row)
    pairs = []
    for rows in members.values():
        for row in rows:
            beside = next((other for other in rows if values[other] != values[row]), None)
            if beside is not None:
                pairs.append((row, beside))
    found = np.array(pairs, np.int64).reshape(-1, 2)
    return found[:, 0], found[:, 1]
