"""Rows of a matrix with the very same numbers, and the distances of pairs of rows."""

import numpy as np

from nearsql.udfs.search.exact_distances import exact_distances
from nearsql.udfs.search.matrix import Matrix
from nearsql.udfs.search.query_blocks import Distances, Ids


def identical_rows(matrix: Matrix) -> Ids:
    """The place of the first row with the very same numbers, (n,).

    A row of zeros in a cosine space has none: without a direction it is far from everything, and two
    texts of unknown words are not the same.
    """
    first = np.arange(len(matrix.ids))
    norms = matrix.squared_norms
    # Identical rows have the same norm to the last bit: few others do, and only those are compared.
    _, inverse, counts = np.unique(norms, return_inverse=True, return_counts=True)
    shared = counts[inverse] > 1
    if matrix.space.metric == "cosine":
        shared &= norms > 0
    rows = np.flatnonzero(shared)
    if len(rows):
        # Adding 0 makes -0.0 to 0.0, so that equal numbers are equal bytes.
        numbers = np.ascontiguousarray(matrix.vectors[rows] + np.float32(0))
        whole = numbers.view(np.dtype((np.void, numbers.strides[0]))).ravel()
        _, firsts, which = np.unique(whole, return_index=True, return_inverse=True)
        first[rows] = rows[firsts][which]
    return first


def without_rounding(
    places: Ids, distances: Distances, twins: Ids, rows: Ids | None = None
) -> Distances:
    """The distances of rows to those at their places, both (m, k), with 0 between identical rows.

    rows: (m,), by default all of them, in order. twins: (n,), `identical_rows`. In a cosine space, 1 - cos
    may leave 1e-16 there.
    """
    own = twins if rows is None else twins[rows]
    return np.where(twins[places] == own[:, None], 0.0, distances)


def pair_distances(matrix: Matrix, rows: Ids, others: Ids, twins: Ids) -> Distances:
    """The distance of each row, (m,), to its other one, (m,); of identical rows 0."""
    norms = matrix.squared_norms
    found = exact_distances(
        matrix.vectors,
        others[:, None],
        matrix.vectors[rows],
        matrix.space.metric,
        norms[others][:, None],
        norms[rows],
    )
    return without_rounding(others[:, None], found, twins, rows)[:, 0]
