"""The vectors of a space as points of Euclidean geometry, in which clusters and maps are made."""

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search.matrix import Matrix

# Rows that are normalised at a time: in float64 they take twice their memory.
_BLOCK = 4096


def part(matrix: Matrix, ids: NDArray[np.int64]) -> Matrix:
    """Those rows of the matrix whose item ids are given; ids that the space lacks are left out."""
    rows = matrix.positions(ids)
    if len(rows) == len(matrix.ids):
        return matrix
    return Matrix(matrix.ids[rows], matrix.vectors[rows], matrix.space)


def euclidean(matrix: Matrix) -> Matrix:
    """The same points in a space of metric l2.

    l2: as they are. cosine: each row divided by its norm; the Euclidean distance of two such rows, the
    chord, is sqrt(2 * cosine distance), so that both metrics rank neighbours alike. A row of zeros
    stays one, as scikit-learn's `normalize` has it. Raises SqlFunctionError for an ip space.
    """
    space = matrix.space
    if space.metric == "l2":
        return matrix
    if space.metric == "ip":
        raise SqlFunctionError(
            f"space '{space.name}' has the metric ip, and inner products are not distances: a point "
            "need not be nearest to itself; store the vectors in a space of metric cosine or l2"
        )
    return Matrix(matrix.ids, normalized(matrix.vectors), replace(space, metric="l2"))


def normalized(
    rows: NDArray[np.float32], out: NDArray[np.float32] | None = None
) -> NDArray[np.float32]:
    """Each row, (n, d), divided by its Euclidean norm in float64; a row of zeros stays one.

    out: where to put them, which may be `rows` itself; by default a new array.
    """
    result = np.empty(rows.shape, np.float32) if out is None else out
    for start in range(0, len(rows), _BLOCK):
        block = rows[start : start + _BLOCK].astype(np.float64)
        norms = np.linalg.norm(block, axis=1, keepdims=True)
        result[start : start + _BLOCK] = block / np.where(norms > 0, norms, 1.0)
    return result
