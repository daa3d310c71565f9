"""What is wrong with a collection, in SQL: duplicates, outliers, label_errors, leaks.

All four look at one thing, the nearest neighbours of every item. Those that `nearsql neighbors` has stored
are read, where there are enough, and not searched; what is found is the same.
"""

from collections.abc import Iterator
from functools import partial

import apsw
import numpy as np

from nearsql.udfs import within as within_argument
from nearsql.udfs.arguments import number, one_of, whole_number
from nearsql.udfs.catalogue import sql_function
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.finding_searches import (
    matrix_to_search,
    refuse_inner_products,
    votes_on_label,
)
from nearsql.udfs.findings.duplicates import (
    NEIGHBORS,
    find_duplicates,
    near_lists,
    threshold_of,
)
from nearsql.udfs.findings.leaks import find_leaks
from nearsql.udfs.findings.outliers import find_outliers
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.item_values import collections, label_values, same_content
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.stored_graph import known_graph, stored_graph
from nearsql.udfs.vote_functions import WEIGHTINGS


@sql_function(
    columns=("id", "group_id", "neighbor_id", "distance", "is_exact", "group_size"),
    example="select id, group_id, neighbor_id, round(distance, 4) as distance, is_exact\n"
    "from duplicates('digits/pixels') where id <> group_id limit 3",
)
def duplicates(
    db: apsw.Connection, space: str, threshold: float | None = None, within: str | None = None
) -> Iterator[tuple[int, int, int, float, int, int]]:
    """The items that are there more than once, exactly or nearly: a row each, by groups.

    Two items are duplicates when they are at most threshold apart, in the space's metric, or have the
    same bytes (the SHA-256 of `items`). Groups are transitive: what a duplicate is a duplicate of is in
    its group. group_id is the lowest id of the group, so `where id <> group_id` leaves one item of each.

    neighbor_id is the item to look at beside it: one with the same bytes (is_exact is 1), or else the same
    vector; or else the nearest of lower id within the threshold; or else the nearest. Every group is
    complete, however large it is.

    Without threshold, that of `near_threshold`. within limits all this to the items of a selection, of a SELECT,
    or of a JSON array of ids.
    """
    matrix = _matrix(db, space, within)
    poll = Poll(db)
    limit = None if threshold is None else number("threshold", threshold, at_least=0)
    lists = near_lists(matrix, stored_graph(db, matrix, NEIGHBORS), poll)
    if limit is None:
        limit = threshold_of(lists)
    same = same_content(db, matrix)
    found = find_duplicates(matrix, limit, lists, poll, same=same)
    sizes = np.bincount(found.groups, minlength=len(found.groups))
    rows = np.flatnonzero(found.others >= 0)
    rows = rows[np.argsort(found.groups[rows], kind="stable")]
    groups, others, ids = found.groups[rows], found.others[rows], matrix.ids
    yield from zip(
        ids[rows].tolist(),
        ids[groups].tolist(),
        ids[others].tolist(),
        found.distances[rows].tolist(),
        (same[rows] == same[others]).astype(np.int64).tolist(),
        sizes[groups].tolist(),
        strict=True,
    )


@sql_function(
    example="select round(near_threshold('digits/pixels'), 4) as threshold",
)
def near_threshold(db: apsw.Connection, space: str, within: str | None = None) -> float:
    """The distance within which two items of a space count as near-duplicates, chosen from the space.

    0.13 times the median distance from an item to its nearest other one, the rule of Cleanlab's Datalab;
    items at distance 0 from another do not count. It is what `duplicates` and `leaks` take without a
    threshold.
    """
    matrix = _matrix(db, space, within)
    return threshold_of(near_lists(matrix, stored_graph(db, matrix, NEIGHBORS), Poll(db)))


@sql_function(
    columns=("id", "distance", "z_score"),
    example="select id, round(distance, 3) as distance, round(z_score, 2) as z_score\n"
    "from outliers('digits/pixels', 10) limit 3",
)
def outliers(
    db: apsw.Connection, space: str, k: int = 10, within: str | None = None
) -> Iterator[tuple[int, float, float | None]]:
    """All items of a space, those farthest from their own k-th nearest neighbour first.

    distance is that to the k-th neighbour (where there are fewer, to the farthest). z_score says how
    unusual it is: the modified z-score of its logarithm, 0.6745 * (x - median) / MAD, of which more than
    3.5 counts as an outlier (Iglewicz and Hoaglin 1993). NULL for distance 0, and for all items when
    half of them are equally far.

    within limits all this to the items of a selection, of a SELECT, or of a JSON array of ids.
    """
    count = whole_number("k", k, at_least=1)
    matrix = _matrix(db, space, within)
    found = find_outliers(known_graph(db, matrix, count, poll=Poll(db))[1])
    scores = found.scores[found.order]
    yield from zip(
        matrix.ids[found.order].tolist(),
        found.distances[found.order].tolist(),
        [None if np.isnan(score) else score for score in scores.tolist()],
        strict=True,
    )


@sql_function(
    columns=("id", "given", "suggested", "confidence", "is_error", "distance"),
    example="select id, given, suggested, confidence, is_error, round(distance, 3) as distance\n"
    "from label_errors('digits/pixels', 'digit', 10) limit 3",
)
def label_errors(
    db: apsw.Connection,
    space: str,
    label: str,
    k: int = 10,
    within: str | None = None,
    weighting: str = "uniform",
    temperature: float = 0.07,
) -> Iterator[tuple[int, str, str, float, int, float]]:
    """The items whose neighbours vote for another value of a label than theirs, the surest errors first.

    The k nearest other items that have the label vote, as in `vote` with the same weighting; suggested
    is the value that wins, distance that to the nearest item with it. confidence is the share of the votes
    against the item's own value.

    They come by confidence; of those with the same, that with the nearer neighbour of the suggested value
    first, and outliers last, of which neighbours know little. is_error is 1 for the first of them, so
    many as confident learning estimates that there are (Northcutt et al. 2021).

    within limits all this to the items of a selection, of a SELECT, or of a JSON array of ids.
    """
    count = whole_number("k", k, at_least=1)
    way = one_of("weighting", weighting, WEIGHTINGS)
    heat = number("temperature", temperature)
    if heat <= 0:
        raise SqlFunctionError(f"temperature must be above 0, not {temperature}")
    matrix = matrix_to_search(db, space, within_argument.item_ids(db, within))
    graph_of = partial(known_graph, db, poll=Poll(db))
    votes = votes_on_label(db, matrix, label, count, way, heat, graph_of)
    found, names, codes = votes.errors, votes.values.names, votes.values.codes
    for rank, (row, suggested, confidence, distance) in enumerate(
        zip(
            found.rows.tolist(),
            found.suggested.tolist(),
            found.confidence.tolist(),
            found.nearest.tolist(),
            strict=True,
        )
    ):
        yield (
            int(votes.matrix.ids[row]),
            names[codes[row]],
            names[suggested],
            confidence,
            int(rank < found.count),
            distance,
        )


@sql_function(
    columns=("id", "value", "neighbor_id", "neighbor_value", "distance", "is_exact"),
    example="select id, value, neighbor_id, neighbor_value, round(distance, 3) as distance\n"
    "from leaks('digits/pixels', 'digit', 1.0) limit 3",
)
def leaks(
    db: apsw.Connection,
    space: str,
    label: str | None = None,
    threshold: float | None = None,
    within: str | None = None,
) -> Iterator[tuple[int, str, int, str, float, int]]:
    """The items that have a near-duplicate with another value of a label, such as 'split'.

    With label NULL, or left out, in another collection. A row for each such item, on both sides:
    neighbor_id is the one with the same bytes (is_exact is 1) and another value, or else the nearest
    of another value, at most threshold away. So `where value = 'test'` gives the items of a test set
    that training has seen. Items without the label are left out. None is missed, however many
    duplicates an item has on its own side.

    Without threshold, that of `near_threshold`. within limits all this to the items of a selection, of a SELECT,
    or of a JSON array of ids.
    """
    limit = None if threshold is None else number("threshold", threshold, at_least=0)
    matrix = _matrix(db, space, within)
    values = collections(db, matrix) if label is None else label_values(db, matrix, label)
    poll = Poll(db)
    graph = known_graph(db, matrix, NEIGHBORS, poll=poll)
    if limit is None:
        limit = threshold_of(near_lists(matrix, graph))
    same = same_content(db, matrix)
    found = find_leaks(matrix, values.codes, limit, graph, poll, same=same)
    for row, other, distance in zip(
        found.rows.tolist(), found.others.tolist(), found.distances.tolist(), strict=True
    ):
        yield (
            int(matrix.ids[row]),
            values.names[values.codes[row]],
            int(matrix.ids[other]),
            values.names[values.codes[other]],
            distance,
            int(same[row] == same[other]),
        )


def _matrix(db: apsw.Connection, space: str, within: str | None) -> Matrix:
    matrix = matrix_to_search(db, space, within_argument.item_ids(db, within))
    refuse_inner_products(matrix)
    return matrix
