"""The best rows so far of each row of a block, while the rest are still being compared with it.

A score is a float32 number, the larger the nearer, and wrong by at most a known error. So a row may be
one of the k nearest only if its score comes within twice that error of the k-th best score.
"""

import threading

import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.search.query_blocks import Distances, Ids

Scores = NDArray[np.float32]
# Score and place of a candidate in one number, the better the smaller: numpy sorts numbers several times
# faster than it finds their order.
Keys = NDArray[np.int64]

_NONE = np.iinfo(np.int64).max
_PLACE = 0xFFFFFFFF


def room_for(k: int) -> int:
    """How many candidates of a row are kept at most: more than there must be, to sort seldom."""
    return k + max(16, k // 2)


def bytes_for(k: int) -> int:
    """Bytes that the candidates of one row take."""
    return 8 * room_for(k) + 32


class BestCandidates:
    """The candidates of each of b rows. Several threads may add to them.

    limits: (b,) float32, for each row what a score must exceed to be of use.
    is_open: (b,) whether the row has more candidates than there is room for: they are then not known.
    """

    def __init__(self, k: int, errors: Distances) -> None:
        """errors: (b,) how wrong scores may be; infinite for a row that they say nothing about."""
        b = len(errors)
        self._k, self._room = k, room_for(k)
        self._margins = 2 * errors
        self._lock = threading.Lock()
        self._counts = np.zeros(b, np.int64)
        self._keys: Keys = np.full((b, self._room), _NONE)
        self.is_open = np.isinf(errors)
        self.limits: Scores = np.where(self.is_open, np.inf, -np.inf).astype(np.float32)

    def limit_by(self, scores: Scores) -> None:
        """Sets the limits by scores of at least k rows, (b, m), that are to be added afterwards."""
        m = scores.shape[1]
        kth = np.partition(scores, m - self._k, axis=1)[:, m - self._k]
        with self._lock:
            self._raise_limits(np.arange(len(kth)), kth)

    def add(self, rows: Ids, scores: Scores, places: Ids) -> None:
        """Adds candidates, (m,) each: for which row of the block (ascending), score, and place."""
        keys = _keys(scores, places)
        added = np.bincount(rows, minlength=len(self._counts))
        with self._lock:
            totals = self._counts + added
            slots = np.arange(len(rows)) + (totals - np.cumsum(added))[rows]
            is_full = totals > self._room
            if is_full.any():
                is_of_full = is_full[rows]
                full = np.flatnonzero(is_full)
                at = np.cumsum(is_full) - 1
                wide = np.full((len(full), int(totals[full].max())), _NONE)
                wide[:, : self._room] = self._keys[full]
                wide[at[rows[is_of_full]], slots[is_of_full]] = keys[is_of_full]
                totals[full] = self._keep_best(full, wide)
                rows, slots, keys = rows[~is_of_full], slots[~is_of_full], keys[~is_of_full]
            self._keys[rows, slots] = keys
            self._counts = totals

    def _keep_best(self, full: Ids, keys: Keys) -> Ids:
        """Keeps of the keys of some rows those that may be among the k nearest; how many, for each row."""
        keys.sort(axis=1)
        self._raise_limits(full, _scores(keys[:, self._k - 1]))
        counts = self._within_limits(full, keys)
        is_open = counts > self._room
        self.is_open[full[is_open]] = True
        self.limits[full[is_open]] = np.inf
        counts[is_open] = 0
        kept = keys[:, : self._room]
        kept[np.arange(self._room) >= counts[:, None]] = _NONE
        self._keys[full] = kept
        return counts

    def best(self) -> tuple[Ids, Ids]:
        """(places, counts): each row's candidates, (b, m), the best first; how many, (b,).

        Behind them -1. None of a row that is open.
        """
        every = np.arange(len(self._keys))
        keys = np.sort(self._keys, axis=1)
        self._raise_limits(every, _scores(keys[:, self._k - 1]))
        counts = self._within_limits(every, keys)
        keys = keys[:, : counts.max(initial=0)]
        return np.where(np.arange(keys.shape[1]) < counts[:, None], keys & _PLACE, -1), counts

    def _raise_limits(self, rows: Ids, kth: Scores) -> None:
        """Sets the limits by the k-th best scores, rounded down. Those of open rows are infinite."""
        with np.errstate(invalid="ignore"):  # their margins are infinite too
            limits = (kth - self._margins[rows]).astype(np.float32)
        limits = np.nextafter(limits, np.float32(-np.inf))
        self.limits[rows] = np.fmax(self.limits[rows], limits)

    def _within_limits(self, rows: Ids, keys: Keys) -> Ids:
        """How many of the keys are of scores above the row's limit."""
        worst = _keys(self.limits[rows], np.zeros(len(rows), np.int64))
        return np.count_nonzero(keys < worst[:, None], axis=1)


def _keys(scores: Scores, places: Ids) -> Keys:
    """The bits of a float32 number have its order, but for the negative ones, where they have its reverse."""
    bits = np.negative(scores).view(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    return (bits.astype(np.int64) << 32) | places


def _scores(keys: Keys) -> Scores:
    bits = (keys >> 32).astype(np.int32)
    bits ^= (bits >> 31) & 0x7FFFFFFF
    return np.negative(bits.view(np.float32))
