"""Members of a clustering in a quarter of their bytes, and what these tell of their distances to a vector.

Looking at all members for one vector takes as long as reading them. Here each is kept once more, as whole
numbers from -127 to 127 times a step of its own, with how far that is from the member; by the triangle
inequality the distance to what is kept bounds the distance to the member.

Scalar quantisation, as in H. Jegou, M. Douze, C. Schmid: Product Quantization for Nearest Neighbor Search
(2011), but with proven bounds, as in R. Weber, H.-J. Schek, S. Blott: A Quantitative Analysis (...) for
Similarity-Search Methods in High-Dimensional Spaces (1998), the VA-file.
"""

from dataclasses import dataclass

import numpy as np
from numba import njit
from numpy.typing import NDArray

from nearsql.udfs.search.workers import Poll, in_threads, worker_count

# The largest code of a member, and of a query, whose codes are finer.
_LARGEST = 127
_LARGEST_OF_QUERY = 32_767
# Roundings of float64, in whatever order up to 10^6 terms are added; squared lengths lose less.
_SLACK = 1e-9
_SLACK_OF_SQUARES = 1e-14
# Rows that are quantised at a time, in float64, and those that say where the middle is.
_ROWS = 256
_CENTRED_BY = 1024


@dataclass(frozen=True, slots=True)
class MemberCodes:
    """Members, quantised: member i is within errors[i] of `centre + steps[i] * codes[i]`."""

    codes: NDArray[np.int8]  # (n, d)
    steps: NDArray[np.float64]  # (n,)
    squares: NDArray[np.float64]  # (n,), squared norms of steps * codes
    errors: NDArray[np.float64]  # (n,)
    centre: NDArray[np.float64]  # (d,)

    def bounds(
        self, query: NDArray[np.float32], poll: Poll | None = None
    ) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
        """The least and the largest that the float64 distance of each member to a query (d,) can be, (n,)."""
        n, d = self.codes.shape
        # Sums of products stay within 32 bits.
        largest = min(_LARGEST_OF_QUERY, (2**31 - 1) // (_LARGEST * d))
        codes, step, square, error = _quantised(query[None, :], self.centre, largest)
        lower, upper = np.empty(n), np.empty(n)
        wanted = codes[0].astype(np.int16)
        own = (float(step[0]), float(square[0]), float(error[0]))

        def scan(start: int) -> None:
            part = slice(start, start + height)
            _bound(
                self.codes[part],
                self.steps[part],
                self.squares[part],
                self.errors[part],
                wanted,
                *own,
                lower[part],
                upper[part],
            )

        height = -(-n // worker_count())
        in_threads(scan, range(0, n, height), n * d // 4, poll)
        return lower, upper


def member_codes(rows: NDArray[np.float32], poll: Poll | None = None) -> MemberCodes:
    """Quantises members, (n, d) float32 and finite, n and d above 0. Takes a quarter of their memory."""
    n, d = rows.shape
    # A mean would follow a single row of another size, and all others be far from it.
    some = rows[:: max(1, n // _CENTRED_BY)].astype(np.float64)
    centre = np.median(some, axis=0)
    codes = np.empty((n, d), np.int8)
    steps, squares, errors = np.empty(n), np.empty(n), np.empty(n)
    for start in range(0, n, _ROWS):
        part = slice(start, start + _ROWS)
        found, steps[part], squares[part], errors[part] = _quantised(rows[part], centre, _LARGEST)
        codes[part] = found
        if poll is not None:
            poll()
    return MemberCodes(codes, steps, squares, errors, centre)


def _quantised(
    rows: NDArray[np.float32], centre: NDArray[np.float64], largest: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.float64], NDArray[np.float64]]:
    """(codes, steps, squares, errors) of rows (n, d): codes are whole numbers up to `largest`."""
    centred = rows - centre
    sizes = np.abs(centred).max(axis=1)
    steps = np.where(sizes > 0, sizes / largest, 1.0)
    codes = np.rint(centred / steps[:, None])
    squares = np.einsum("ij,ij->i", codes, codes) * steps**2
    norms = np.sqrt(np.einsum("ij,ij->i", centred, centred))
    centred -= codes * steps[:, None]
    errors = np.sqrt(np.einsum("ij,ij->i", centred, centred)) * (1 + _SLACK)
    # What centring and multiplying rounded.
    return codes, steps, squares, errors + 1e-12 * norms


@njit(cache=True, nogil=True)
def _bound(
    codes: NDArray[np.int8],
    steps: NDArray[np.float64],
    squares: NDArray[np.float64],
    errors: NDArray[np.float64],
    query: NDArray[np.int16],
    query_step: float,
    query_square: float,
    query_error: float,
    lower: NDArray[np.float64],
    upper: NDArray[np.float64],
) -> None:
    """`MemberCodes.bounds`, of some members. The sums of products are whole numbers, and exact.

    Kept at 32 bits at each step, as the CPU multiplies 16 bits by 16: numba would take 64, three times as long.
    """
    for i in range(codes.shape[0]):
        product = np.int32(0)
        for j in range(codes.shape[1]):
            product = np.int32(product + np.int32(np.int32(codes[i, j]) * np.int32(query[j])))
        both = squares[i] + query_square
        apart = both - 2.0 * steps[i] * query_step * product
        rounded = _SLACK_OF_SQUARES * both
        error = errors[i] + query_error
        lower[i] = (np.sqrt(max(apart - rounded, 0.0)) - error) * (1.0 - _SLACK)
        upper[i] = (np.sqrt(max(apart, 0.0) + rounded) + error) * (1.0 + _SLACK)
