"""A space's vectors as one matrix in memory, shared by all connections and threads of the process.

A matrix is loaded once and found again as long as the space's (generation, token) in the caller's
snapshot are those it was loaded at; so a cached matrix can be missing, but never stale.
"""

import contextlib
import os
import re
import sys
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, NamedTuple, cast

import apsw
import numpy as np
from numpy.typing import NDArray

from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.spaces import Space

MEMORY_VARIABLE = "NEARSQL_MEMORY"

# What numpy works on at once when it looks at every row: small enough to stay in the CPU's caches.
_BLOCK_NUMBERS = 1 << 18


@dataclass(frozen=True, eq=False)
class Matrix:
    """The vectors of a space, as stored, at one generation. Never changed once made.

    ids: (n,) int64 item ids, ascending. vectors: (n, d) float32, C-contiguous; row i belongs to ids[i].
    space: the space, with the generation and token at which this was read.
    """

    ids: NDArray[np.int64]
    vectors: NDArray[np.float32]
    space: Space

    @cached_property
    def squared_norms(self) -> NDArray[np.float64]:
        """The inner product of each row with itself, (n,) float64.

        Cosine needs them; kept instead of normalised rows, which would take as much memory again.
        """
        return _squared_norms(self.vectors)

    def positions(self, ids: NDArray[np.int64]) -> NDArray[np.int64]:
        """The row positions of those of the item ids that are in the space, ascending, each once."""
        wanted = np.unique(np.asarray(ids, np.int64))
        places = np.searchsorted(self.ids, wanted)
        places = places[places < len(self.ids)]
        return cast(Any, places[self.ids[places] == wanted[: len(places)]])

    def position(self, item_id: int) -> int | None:
        """The row of one item, None if the space has no vector of it."""
        place = int(np.searchsorted(self.ids, item_id))
        if place < len(self.ids) and self.ids[place] == item_id:
            return place
        return None


def load_matrix(db: apsw.Connection, space: Space) -> Matrix:
    """The matrix of a space as the connection's current snapshot sees it.

    Without reading a vector when the process has it already. Raises SqlFunctionError for a space that
    is larger than the memory allowed, and for a stored NaN or infinity.
    """
    return _cache.get(db, space)


def _blocks(rows: int, dimensions: int) -> list[tuple[int, int]]:
    """(start, stop) of consecutive blocks of rows that stay in the CPU's caches."""
    step = max(1, _BLOCK_NUMBERS // max(1, dimensions))
    return [(start, min(start + step, rows)) for start in range(0, rows, step)]


class _Key(NamedTuple):
    """Which space of which file. A copied file has another inode, a replaced one another database_id."""

    place: Any
    database_id: str
    space_id: int


class _Cache:
    """Matrices by space, least recently used first, bounded in bytes."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._matrices: OrderedDict[_Key, Matrix] = OrderedDict()
        self._being_read: dict[_Key, int] = {}  # bytes
        self._readers: dict[_Key, threading.Lock] = {}
        self._connections: weakref.WeakSet[apsw.Connection] = weakref.WeakSet()
        # Filled when in-memory databases are garbage collected, which may happen at any moment, also
        # while this thread holds the lock: hence not removed at once.
        self._gone: deque[Any] = deque()

    def get(self, db: apsw.Connection, space: Space) -> Matrix:
        key = self._key(db, space)
        found = self._find(key, space)
        if found is not None:
            return found
        poll = Poll(db)
        with self._lock:
            reader = self._readers.setdefault(key, threading.Lock())
        # Threads that want the same matrix wait for the first rather than reading it twice.
        while not reader.acquire(timeout=0.05):
            poll()
        try:
            found = self._find(key, space)
            if found is not None:
                return found
            with self._lock:
                older = self._matrices.get(key)
            matrix = _read(db, space, older, lambda *needed: self._make_room(key, *needed), poll)
            with self._lock:
                self._matrices[key] = matrix
            return matrix
        finally:
            with self._lock:
                self._being_read.pop(key, None)
            reader.release()

    def _find(self, key: _Key, space: Space) -> Matrix | None:
        with self._lock:
            while self._gone:
                place = self._gone.popleft()
                for other in [k for k in self._matrices if k.place == place]:
                    del self._matrices[other]
            matrix = self._matrices.get(key)
            if matrix is None or not _same_vectors(matrix.space, space):
                return None
            self._matrices.move_to_end(key)
            if matrix.space != space:  # it was renamed
                matrix = self._matrices[key] = replace(matrix, space=space)
        return matrix

    def _make_room(self, key: _Key, space: Space, needed: int) -> None:
        """Sets aside memory for a matrix about to be read, dropping those unused for longest."""
        limit = memory_limit()
        if needed > limit:
            raise SqlFunctionError(
                f"space '{space.name}' needs {_shown_bytes(needed)} of memory, more than the "
                f"{_shown_bytes(limit)} allowed: set the environment variable {MEMORY_VARIABLE} "
                f"to at least {-(-needed // 10**6)}MB"
            )
        with self._lock:
            self._matrices.pop(key, None)  # an older generation of the same space
            self._being_read[key] = needed
            used = sum(self._being_read.values())
            used += sum(_needed(*m.vectors.shape) for m in self._matrices.values())
            while self._matrices and used > limit:
                _, dropped = self._matrices.popitem(last=False)
                used -= _needed(*dropped.vectors.shape)

    def _key(self, db: apsw.Connection, space: Space) -> _Key:
        ((database_id,),) = db.execute("select value from metadata where key = 'database_id'")
        if filename := db.db_filename("main"):
            # Deleted while open, it is not found: then, as in memory, it lives with the connection.
            with contextlib.suppress(FileNotFoundError):
                status = os.stat(filename)
                return _Key((status.st_dev, status.st_ino), str(database_id), space.id)
        place = ("connection", id(db))
        if db not in self._connections:
            self._connections.add(db)
            weakref.finalize(db, self._gone.append, place)
        return _Key(place, str(database_id), space.id)


_cache = _Cache()


def _same_vectors(a: Space, b: Space) -> bool:
    return (a.generation, a.generation_token) == (b.generation, b.generation_token)


def _needed(rows: int, dimensions: int) -> int:
    """Bytes of a matrix: vectors, ids, squared norms."""
    return rows * (4 * dimensions + 16)


def _squared_norms(vectors: NDArray[np.float32]) -> NDArray[np.float64]:
    squares = np.empty(len(vectors), np.float64)
    for start, stop in _blocks(*vectors.shape):
        block = vectors[start:stop].astype(np.float64)
        np.multiply(block, block, out=block)
        block.sum(axis=1, out=squares[start:stop])
    return squares


def _read(
    db: apsw.Connection,
    space: Space,
    older: Matrix | None,
    make_room: Callable[[Space, int], None],
    poll: Poll,
) -> Matrix:
    """Reads a space into a new matrix: all of it, or what changed since an older matrix of it."""
    snapshot = db.execute(
        "select generation, generation_token,"
        " (select count(*) from vectors where space_id = spaces.id) from spaces where id = ?",
        (space.id,),
    )
    try:
        # One row is taken and the statement left open: that holds the snapshot until the last vector
        # is read, even when no statement of the caller holds one.
        row = next(snapshot, None)
        if row is None:
            raise SqlFunctionError(f"space '{space.name}' was deleted a moment ago")
        generation, token, count = cast(Any, row)
        space = replace(space, generation=generation, generation_token=token)
        needed = _needed(count, space.dimensions)
        if older is not None:
            changed = _changes(db, space, older)
            if changed is not None and needed + _needed(*older.vectors.shape) <= memory_limit():
                make_room(space, needed + _needed(*older.vectors.shape))
                return _patched(db, space, older, changed, poll)
            older = None  # so that its memory is free for the new one
        make_room(space, needed)
        row_ids = np.empty(count, np.int64)
        ids = np.empty(count, np.int64)
        for i, row in enumerate(
            db.execute(
                "select id, item_id from vectors where space_id = ? order by item_id", (space.id,)
            )
        ):
            row_ids[i], ids[i] = cast(Any, row)
        vectors = np.empty((count, space.dimensions), np.float32)
        _read_vectors(db, space, row_ids, ids, vectors, poll)
    finally:
        snapshot.close()
    vectors.flags.writeable = ids.flags.writeable = False
    return Matrix(ids, vectors, space)


_Changes = list[tuple[int, int | None]]


def _changes(db: apsw.Connection, space: Space, older: Matrix) -> _Changes | None:
    """The items changed since an older matrix, by id, with their row in `vectors` or None if deleted.

    None when the log does not tell them all, or they are so many that reading everything is as quick.
    """
    since, until = older.space.generation, space.generation
    ((is_logged, entries),) = db.execute(
        # The older matrix must be of this history, not of a transaction that was rolled back.
        "select exists (select 1 from vector_changes where space_id = :space and generation = :since"
        " and generation_token = :token),"
        " (select count(*) from vector_changes where space_id = :space"
        " and generation > :since and generation <= :until)",
        {
            "space": space.id,
            "since": since,
            "until": until,
            "token": older.space.generation_token,
        },
    )
    if not is_logged or entries != until - since or entries > len(older.ids) // 4:
        return None
    rows = db.execute(
        "select distinct c.item_id, v.id from vector_changes c"
        " left join vectors v on v.space_id = c.space_id and v.item_id = c.item_id"
        " where c.space_id = ? and c.generation > ? order by c.item_id",
        (space.id, since),
    )
    return cast(Any, rows.fetchall())


def _patched(
    db: apsw.Connection, space: Space, older: Matrix, changes: _Changes, poll: Poll
) -> Matrix:
    """A new matrix: the older one's rows but for the changed items, which are read.

    The older one stays as it is, since searches of other threads may be using it.
    """
    present = [(item, row) for item, row in changes if row is not None]
    new_ids = np.array([item for item, _ in present], np.int64)
    new_rows = np.array([row for _, row in present], np.int64)
    new_vectors = np.empty((len(new_ids), space.dimensions), np.float32)
    _read_vectors(db, space, new_rows, new_ids, new_vectors, poll)

    stays = ~np.isin(older.ids, np.array([item for item, _ in changes], np.int64))
    kept_ids = older.ids[stays]
    places = np.searchsorted(kept_ids, new_ids)  # each goes before the kept row of that place
    ids = np.insert(kept_ids, places, new_ids)
    is_new = np.zeros(len(ids), np.bool_)
    is_new[places + np.arange(len(places))] = True
    vectors = np.empty((len(ids), space.dimensions), np.float32)
    vectors[is_new] = new_vectors
    sources = np.flatnonzero(stays)
    targets = np.flatnonzero(~is_new)
    # The kept rows lie in a few long runs, which are copied as memory.
    ends = np.flatnonzero((np.diff(sources) != 1) | (np.diff(targets) != 1)) + 1
    for run in np.split(np.arange(len(sources)), ends):
        if len(run):
            source, target = sources[run[0]], targets[run[0]]
            vectors[target : target + len(run)] = older.vectors[source : source + len(run)]
    vectors.flags.writeable = ids.flags.writeable = False
    matrix = Matrix(ids, vectors, space)
    if "squared_norms" in vars(older):
        norms = np.empty(len(ids), np.float64)
        norms[~is_new] = older.squared_norms[stays]
        norms[is_new] = _squared_norms(new_vectors)
        vars(matrix)["squared_norms"] = norms
    return matrix


def _read_vectors(
    db: apsw.Connection,
    space: Space,
    row_ids: NDArray[np.int64],
    ids: NDArray[np.int64],
    out: NDArray[np.float32],
    poll: Poll,
) -> None:
    """Reads the vectors of table rows into the rows of `out`, refusing what is not a finite number.

    By incremental blob reads: no copy between SQLite's page cache and the matrix.
    """
    if not len(out):
        return
    opened = db.blob_open("main", "vectors", "vector", int(row_ids[0]), False)
    # An interrupted blob is closed already, which its own `with` would report instead of the interrupt.
    with contextlib.closing(opened) as blob:
        for start, stop in _blocks(*out.shape):
            for i in range(start, stop):
                blob.reopen(int(row_ids[i]))
                if blob.length() != out.itemsize * space.dimensions:
                    raise SqlFunctionError(
                        f"the vector of item {ids[i]} in space '{space.name}' has {blob.length()} bytes, "
                        f"not the {out.itemsize * space.dimensions} of {space.dimensions} float32 numbers"
                    )
                blob.read_into(out[i])
            if sys.byteorder == "big":
                out[start:stop].byteswap(inplace=True)
            finite = np.isfinite(out[start:stop]).all(axis=1)
            if not finite.all():
                raise SqlFunctionError(
                    f"the vector of item {ids[start + int(finite.argmin())]} in space '{space.name}' "
                    "holds a NaN or infinity: write it anew, or delete it from `vectors`"
                )
            poll()


def memory_limit() -> int:
    """Bytes that all matrices together may take: NEARSQL_MEMORY, or half of the machine's memory."""
    setting = os.environ.get(MEMORY_VARIABLE, "").strip()
    if not setting:
        return _machine_memory() // 2
    match = re.fullmatch(r"(\d+(?:\.\d+)?)\s*([KMGT]?)(i?)B?", setting, re.IGNORECASE)
    if not match:
        raise SqlFunctionError(
            f"the environment variable {MEMORY_VARIABLE} must be a size such as 4GB or 512MB, "
            f"not '{setting}'"
        )
    number, unit, binary = match.groups()
    base = 1024 if binary else 1000
    return int(float(number) * base ** " KMGT".index(unit.upper() or " "))


def _machine_memory() -> int:
    """Bytes of memory that this process could have: the machine's, or its container's if that is less."""
    try:
        found = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
    except (AttributeError, ValueError):  # Windows does not tell this way
        found = 8 * 10**9
    try:
        found = min(found, int(Path("/sys/fs/cgroup/memory.max").read_text()))
    except (OSError, ValueError):  # no cgroup v2, or "max": no limit of its own
        pass
    return found


def _shown_bytes(count: int) -> str:
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
