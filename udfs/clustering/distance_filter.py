"""Distances decided in float64, and found by float32 matrix products.

One matrix product gives a whole block of dot products, but only to float32's rounding. Here each
comes with a proven error bound, so that it serves as a filter: it says which pairs cannot matter.
The pairs that remain are computed in float64, one after another, and only those decide.

Bounds: N. Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numba import njit
from numpy.typing import NDArray

# Half the distance from 1 to the next float32: the largest relative error of one rounding.
FLOAT32_ROUNDOFF = 2.0**-24
# A float64 sum of squares in any order is this close to any other order, for up to 10^6 dimensions.
_FLOAT64_SLACK = 1e-9
# A block of dot products takes at most this many float32 numbers (64 MiB).
_BLOCK_NUMBERS = 2**24
# Rows that are centred at a time, in float64.
_ROWS = 4096


@dataclass(frozen=True)
class FilteredPoints:
    """Points with what the filter needs.

    For any two rows p, q:
    `low[p] + low[q] - 2 * (scaled[p] @ scaled[q]) <= (scale * distance(rows, p, q)) ** 2`,
    where the product may be summed by BLAS in float32 in any order.
    """

    rows: NDArray[np.float32]  # (n, d), as given: what float64 distances are computed from
    centre: NDArray[np.float64]  # (d,), their mean
    low: NDArray[np.float64]  # (n,), squared norms of `scaled` less what rounding may take
    scale: float  # a power of two, so that scaling rounds nothing

    @cached_property
    def scaled(self) -> NDArray[np.float32]:
        """The rows centred, and brought to norms of at most 1, (n, d). Made when first asked for."""
        return self.scaled_part(slice(None))

    def scaled_part(self, part: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """`scaled[part]`, for who has no room for all of it."""
        if isinstance(part, slice):
            return _scaled(self.rows[part], self.centre, self.scale)
        return _scaled_at(self.rows, part, self.centre, self.scale)

    @property
    def block_rows(self) -> int:
        """How many rows may be multiplied with all points at once."""
        return max(16, min(1024, _BLOCK_NUMBERS // max(1, len(self.rows))))


def filtered(rows: NDArray[np.float32]) -> FilteredPoints:
    """Prepares points, (n, d) float32 and finite, for filtering."""
    rows = np.ascontiguousarray(rows, dtype=np.float32)
    n, d = rows.shape
    # Float32 rounds relative to the norms: close to the origin it rounds least.
    centre = rows.mean(axis=0, dtype=np.float64)
    squares = np.empty(n)
    for start in range(0, n, _ROWS):
        part = rows[start : start + _ROWS] - centre
        squares[start : start + _ROWS] = np.einsum("ij,ij->i", part, part)
    largest = float(np.sqrt(squares.max(initial=0.0)))
    scale = 2.0 ** -np.ceil(np.log2(largest)) if largest > 0 else 1.0
    # 2 |p||q| <= |p|^2 + |q|^2 splits the bound of the dot product, d roundings, over both points;
    # 8 more cover the rounding of the centred rows, and 2^-120 what float32 flushes to zero.
    slack = (d + 8) * FLOAT32_ROUNDOFF
    low = squares * scale**2 * (1.0 - slack) - d * 2.0**-120
    return FilteredPoints(rows, centre, low, float(scale))


@njit(cache=True, nogil=True)
def _scaled(
    rows: NDArray[np.float32], centre: NDArray[np.float64], scale: float
) -> NDArray[np.float32]:
    """`(rows - centre) * scale` in float64, rounded once: numpy's temporaries would take six times as long."""
    out = np.empty_like(rows)
    for r in range(rows.shape[0]):
        for i in range(rows.shape[1]):
            out[r, i] = np.float32((np.float64(rows[r, i]) - centre[i]) * scale)
    return out


@njit(cache=True, nogil=True)
def _scaled_at(
    rows: NDArray[np.float32], places: NDArray[np.int64], centre: NDArray[np.float64], scale: float
) -> NDArray[np.float32]:
    """As `_scaled`, of the rows at some places."""
    out = np.empty((len(places), rows.shape[1]), np.float32)
    for r in range(len(places)):
        row = rows[places[r]]
        for i in range(len(row)):
            out[r, i] = np.float32((np.float64(row[i]) - centre[i]) * scale)
    return out


@njit(cache=True, nogil=True)
def distance(rows: NDArray[np.float32], p: int, q: int) -> float:
    """The Euclidean distance of two rows.

    Summed in float64 in the order of the columns, as scikit-learn's and hdbscan's trees do: the
    results are equal to the last bit, and so are the ties.
    """
    total = 0.0
    for i in range(rows.shape[1]):
        difference = np.float64(rows[p, i]) - np.float64(rows[q, i])
        total += difference * difference
    return float(np.sqrt(total))


@njit(cache=True, nogil=True)
def distances_to(
    rows: NDArray[np.float32], p: int, places: NDArray[np.integer], out: NDArray[np.float64]
) -> None:
    """`distance` from row p to the rows at these places, (k,), into `out`.

    Four sums grow side by side: one alone would wait for each of its additions, as their order is given.
    """
    d = rows.shape[1]
    whole = len(places) - len(places) % 4
    for j in range(0, whole, 4):
        a, b, c, e = places[j], places[j + 1], places[j + 2], places[j + 3]
        to_a = to_b = to_c = to_e = 0.0
        for i in range(d):
            value = np.float64(rows[p, i])
            by_a = value - np.float64(rows[a, i])
            by_b = value - np.float64(rows[b, i])
            by_c = value - np.float64(rows[c, i])
            by_e = value - np.float64(rows[e, i])
            to_a += by_a * by_a
            to_b += by_b * by_b
            to_c += by_c * by_c
            to_e += by_e * by_e
        out[j], out[j + 1] = np.sqrt(to_a), np.sqrt(to_b)
        out[j + 2], out[j + 3] = np.sqrt(to_c), np.sqrt(to_e)
    for j in range(whole, len(places)):
        out[j] = distance(rows, p, places[j])


def farther(bounds: NDArray[np.float64], scale: float) -> NDArray[np.float64]:
    """How far apart pairs of these lower bounds, (m,), are at least. The inverse of `reach`."""
    return np.sqrt(np.maximum(bounds, 0.0) * (1.0 - 2.0 * _FLOAT64_SLACK)) / scale


@njit(cache=True, nogil=True)
def reach(distance: float, scale: float) -> float:
    """What a pair's lower bound must not exceed for the pair to be this close, or closer."""
    return (distance * scale) ** 2 * (1.0 + _FLOAT64_SLACK)
