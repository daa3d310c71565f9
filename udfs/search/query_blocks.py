"""The pieces of a search for many queries: a block of them, what was found for it, and memory to work in."""

import functools
import threading
from typing import Any

import numpy as np
from numpy.typing import NDArray

Ids = NDArray[np.int64]
Distances = NDArray[np.float64]


class Queries:
    """A block of queries: vectors (m, d) float32, and for each the place it must not find, or -1."""

    def __init__(self, vectors: NDArray[np.float32], exclude: Ids) -> None:
        self.vectors = np.ascontiguousarray(vectors, np.float32)
        self.exclude = exclude
        exact = self.vectors.astype(np.float64)
        self.squared_norms: Distances = (exact * exact).sum(axis=1)

    def __len__(self) -> int:
        return len(self.vectors)

    def take(self, which: Any) -> "Queries":
        """Some of the queries."""
        return Queries(self.vectors[which], self.exclude[which])

    @property
    def unit(self) -> NDArray[np.float32]:
        """The vectors scaled to length 1; those of zeros stay so."""
        norms = np.sqrt(self.squared_norms)[:, None]
        scaled = np.zeros(self.vectors.shape, np.float64)
        np.divide(self.vectors, norms, out=scaled, where=norms > 0)
        return scaled.astype(np.float32)


class Scratch(threading.local):
    """Memory for copied rows, one array for each thread, made when it first needs it."""

    def __init__(self, shape: tuple[int, int]) -> None:
        self.shape = shape

    @functools.cached_property
    def own(self) -> NDArray[np.float32]:
        """The calling thread's array, not initialised."""
        return np.empty(self.shape, np.float32)


# Scores and places of the best rows for each query, (m, c).
Found = tuple[NDArray[np.float32], Ids]


def merged(one: Found, other: Found, c: int) -> Found:
    """The c best of both, in any order; places of -1, whose scores are none, stay if all are needed."""
    scores = np.concatenate([one[0], other[0]], axis=1)
    places = np.concatenate([one[1], other[1]], axis=1)
    if scores.shape[1] <= c:
        return scores, places
    best = np.argpartition(-scores, c - 1, axis=1)[:, :c]
    return np.take_along_axis(scores, best, 1), np.take_along_axis(places, best, 1)


def padded(values: NDArray[Any], filler: float, k: int) -> NDArray[Any]:
    """The values (at most k,) with as much of the filler behind them as makes k."""
    missing = k - len(values)
    return np.pad(values, (0, missing), constant_values=filler) if missing else values
