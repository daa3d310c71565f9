"""The products of all pairs of points: made once and kept for few points, made by blocks for many.

Neighbours, spanning tree and ties each look through them; multiplying takes longer than looking.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.clustering.distance_filter import FilteredPoints

# The products of so many points are kept: they take 4 n^2 bytes, 484 MB of 11,000.
KEPT_POINTS = 11_000
# Rows multiplied at a time when they are kept: few enough to be interrupted between them.
_HEIGHT = 512


@dataclass(frozen=True)
class Products:
    """Float32 products of the scaled rows of points, as `FilteredPoints` bounds their errors."""

    points: FilteredPoints
    kept: NDArray[np.float32] | None  # (n, n), symmetric; None: too many to keep

    def of(self, block: slice | NDArray[np.int64]) -> NDArray[np.float32]:
        """The products of some rows with all, (m, n); not to be written to."""
        if self.kept is not None:
            return self.kept[block]
        scaled = self.points.scaled
        return scaled[block] @ scaled.T


def products(points: FilteredPoints, poll: Callable[[], None]) -> Products:
    """The products of the points, made at once if there are few. poll is called between blocks."""
    n = len(points.rows)
    if n > KEPT_POINTS:
        return Products(points, None)
    kept = np.empty((n, n), np.float32)
    scaled = points.scaled
    for start in range(0, n, _HEIGHT):
        poll()
        stop = start + _HEIGHT
        np.matmul(scaled[start:stop], scaled[start:].T, out=kept[start:stop, start:])
        kept[stop:, start:stop] = kept[start:stop, stop:].T
    return Products(points, kept)
