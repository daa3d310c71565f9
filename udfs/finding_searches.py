"""What findings are made from: the vectors that can have any, and votes on a label. For SQL and pipelines."""

from collections.abc import Callable
from dataclasses import dataclass

import apsw

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.findings.duplicates import Graph
from nearsql.udfs.findings.label_errors import LabelErrors, find_label_errors, vote_weights
from nearsql.udfs.item_values import Values, label_values
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.search.query_blocks import Distances, Ids
from nearsql.udfs.space_points import part
from nearsql.udfs.spaces import find_space

# graph_of(matrix, k) gives the k nearest others of each row, as `neighbor_graph` does.
GraphOf = Callable[[Matrix, int], Graph]


@dataclass(frozen=True, slots=True)
class LabelVotes:
    """The votes of the items of `matrix`, those that have the label.

    values: of these items. places, distances: (n, k), who voted on each. errors: who was voted down.
    """

    matrix: Matrix
    values: Values
    places: Ids
    distances: Distances
    errors: LabelErrors


def matrix_to_search(db: apsw.Connection, space: str, within: Ids | None) -> Matrix:
    """The vectors of a space, or of those of its items whose ids are given."""
    matrix = load_matrix(db, find_space(db, space))
    return matrix if within is None else part(matrix, within)


def refuse_inner_products(matrix: Matrix) -> None:
    """Raises SqlFunctionError for a space of metric ip, in which nothing is near or far."""
    if matrix.space.metric == "ip":
        raise SqlFunctionError(
            f"space '{matrix.space.name}' has the metric ip, and inner products are not distances: an item "
            "need not be nearest to its own copy; store the vectors in a space of metric cosine or l2"
        )


def votes_on_label(
    db: apsw.Connection,
    matrix: Matrix,
    label: str,
    k: int,
    weighting: str,
    temperature: float,
    graph_of: GraphOf,
) -> LabelVotes:
    """The votes of each item's k nearest others that have the label, itself left out.

    weighting, temperature: as in the SQL function `vote`. Raises SqlFunctionError for a label that no
    item has, and for weights by distances that are none.
    """
    if weighting == "distance" and matrix.space.metric == "ip":
        raise SqlFunctionError(
            f"weighting 'distance' needs distances of at least 0, and those of space '{matrix.space.name}' "
            "are inner products: use 'uniform' or 'softmax'"
        )
    values = label_values(db, matrix, label)
    if (values.codes < 0).any():
        matrix = part(matrix, matrix.ids[values.codes >= 0])
        values = Values(values.codes[values.codes >= 0], values.names)
    places, distances = graph_of(matrix, k)
    weights = vote_weights(distances, weighting, temperature)
    errors = find_label_errors(values.codes, places, distances, weights, len(values.names))
    return LabelVotes(matrix, values, places, distances, errors)
