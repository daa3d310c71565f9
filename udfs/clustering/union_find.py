"""Union-find over an array of parents: a point that is its own parent is the root of its set."""

import numpy as np
from numba import njit
from numpy.typing import NDArray


@njit(cache=True, nogil=True)
def find_root(parents: NDArray[np.int64], p: int) -> int:
    """The root of p's set; halves the path on its way, so that later walks are short."""
    while parents[p] != p:
        parents[p] = parents[parents[p]]
        p = parents[p]
    return p


@njit(cache=True, nogil=True)
def find_roots(parents: NDArray[np.int64]) -> NDArray[np.int64]:
    """The root of every point's set."""
    roots = np.empty_like(parents)
    for p in range(len(parents)):
        roots[p] = find_root(parents, p)
    return roots
