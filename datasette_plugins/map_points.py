"""The points of a map as arrays: read once, kept while they are what the file holds, and sampled.

A sample takes the points whose ids, scattered over 32 bits, come first. So it is even, the same each
time, and nested: what a sample shows is in every denser sample of the same place.
"""

import threading
from collections import OrderedDict
from dataclasses import dataclass
from itertools import chain
from typing import Any
from weakref import WeakKeyDictionary

import apsw
import numpy as np
from datasette.database import Database
from numpy.typing import NDArray

from nearsql.datasette_plugins.pages import Problem, sql

# What the maps of one database may take in memory, in bytes: 24 a point, so ten million points.
KEPT_BYTES = 256 * 2**20

# JavaScript's numbers are exact below this.
LARGEST_ID = 2**53

# Beyond it float32 is infinite.
LARGEST_PLACE = float(np.finfo(np.float32).max)

_SCATTER = np.uint64(1640531527)
_LOW_BITS = np.uint64(2**32 - 1)


@dataclass(frozen=True, slots=True)
class Points:
    """A map's points in the order of their ids: int64 ids, float32 x and y; and the state they show."""

    ids: NDArray[np.int64]
    x: NDArray[np.float32]
    y: NDArray[np.float32]
    state: tuple[Any, ...]

    @property
    def bytes(self) -> int:
        """What they take in memory."""
        return self.ids.nbytes + self.x.nbytes + self.y.nbytes


@dataclass(frozen=True, slots=True)
class Window:
    """A part of the plane: what lies in it is `low <= x <= high`, of both axes."""

    x: tuple[float, float]
    y: tuple[float, float]


class Kept:
    """The maps of one database that were asked for last, as long as there is room."""

    def __init__(self) -> None:
        self.lock = threading.Lock()
        self.maps: OrderedDict[int, Points] = OrderedDict()
        # For each connection, the maps that it found unchanged, and at which version of the file.
        self.looked_at: WeakKeyDictionary[apsw.Connection, tuple[Any, set[int]]] = (
            WeakKeyDictionary()
        )

    def read(self, raw: apsw.Connection, run: int) -> Points:
        """The points of a run as the file holds them now, read again only if they have changed.

        One thread reads at a time: who asks for the colours meanwhile will want the same points.
        """
        with self.lock:
            version = raw.execute("pragma data_version").get
            known_version, known = self.looked_at.get(raw, (None, set()))
            if version != known_version:  # somebody else has written: to what, it does not say
                known = set()
                self.looked_at[raw] = (version, known)
            if run not in known or run not in self.maps:
                self._look(raw, run)
                known.add(run)
            self.maps.move_to_end(run)
            while len(self.maps) > 1 and sum(p.bytes for p in self.maps.values()) > KEPT_BYTES:
                self.maps.popitem(last=False)
            return self.maps[run]

    def _look(self, raw: apsw.Connection, run: int) -> None:
        """Reads a run's points, unless their state is that of those which are kept."""
        state = raw.execute(sql("map_state"), {"run": run}).fetchone()
        if state is None or not state[0]:
            self.maps.pop(run, None)
            raise Problem(f"Run {run} has no map.", 404)
        if run not in self.maps or self.maps[run].state != state:
            self.maps.pop(run, None)
            self.maps[run] = _read(raw, run, state)


_kept: WeakKeyDictionary[Database, Kept] = WeakKeyDictionary()


def kept(db: Database) -> Kept:
    """The maps kept of this database."""
    return _kept.setdefault(db, Kept())


def _read(raw: apsw.Connection, run: int, state: tuple[Any, ...]) -> Points:
    rows = raw.execute(sql("map_points"), {"run": run})
    # One flat stream of numbers: faster than rows. Ids are exact in float64 up to LARGEST_ID.
    table = np.fromiter(chain.from_iterable(rows), np.float64).reshape(-1, 3)
    if np.abs(table[:, 0]).max() >= LARGEST_ID:
        raise Problem("This map has an item id beyond 2^53, which a browser cannot tell exactly.")
    if not np.abs(table[:, 1:]).max() <= LARGEST_PLACE:
        raise Problem("This map has a place that is not a number a screen can show.")
    return Points(
        table[:, 0].astype(np.int64),
        table[:, 1].astype(np.float32),
        table[:, 2].astype(np.float32),
        state,
    )


def sample(points: Points, window: Window | None, limit: int) -> NDArray[np.int64]:
    """The positions, ascending, of at most `limit` points, of those in the window if there is one."""
    rows = np.arange(len(points.ids))
    if window is not None:
        rows = np.flatnonzero(
            (points.x >= window.x[0])
            & (points.x <= window.x[1])
            & (points.y >= window.y[0])
            & (points.y <= window.y[1])
        )
    if len(rows) <= limit:
        return rows
    places = points.ids[rows].astype(np.uint64) * _SCATTER & _LOW_BITS
    chosen = rows[np.argpartition(places, limit)[:limit]]
    chosen.sort()
    return chosen
