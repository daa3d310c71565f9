"""What a process keeps in memory of its database files: one budget, in bytes, for all of it.

Matrices and indexes are kept from one query to the next and shared by all connections and threads.
Whoever needs memory drops what was not used for longest; what a search is using at that moment lives
on until that search is done.
"""

import contextlib
import os
import re
import threading
import weakref
from collections import OrderedDict, deque
from collections.abc import Callable, Hashable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import apsw

from nearsql.udfs.errors import SqlFunctionError

MEMORY_VARIABLE = "NEARSQL_MEMORY"

# How often a thread that waits for another one looks whether it was interrupted.
_WAIT_S = 0.05


class TooLarge(SqlFunctionError):
    """Something does not fit the memory allowed, even with everything else dropped."""


# Sets aside so many bytes in all for what is being loaded; raises TooLarge.
Reserve = Callable[[int], None]
# Gives the value of another version, or None. Called, so that only who wants it keeps it alive.
Older = Callable[[], Any]


@dataclass(slots=True)
class _Resident:
    version: Hashable
    value: Any
    nbytes: int


class Residents:
    """What is in memory, least recently used first. A key is the tuple (place of the file, ...)."""

    def __init__(self) -> None:
        self._lock = threading.Condition()
        self._kept: OrderedDict[tuple[Hashable, ...], _Resident] = OrderedDict()
        self._being_loaded: dict[tuple[Hashable, ...], int] = {}  # bytes
        self._loaders: dict[tuple[Hashable, ...], threading.Lock] = {}
        # Filled when in-memory databases are garbage collected, which may happen at any moment, also
        # while this thread holds the lock: hence not removed at once.
        self._gone: deque[Hashable] = deque()

    def get(
        self,
        key: tuple[Hashable, ...],
        version: Hashable,
        load: Callable[[Older, Reserve], tuple[Hashable, Any]],
        poll: Callable[[], None],
        what: str,
    ) -> Any:
        """The value of the key at that version: from memory, or else loaded; one thread loads at a time.

        load(older, reserve) gives (version, value), where the version may be a later one than was asked
        for. older() is the value of another version, or None. Before it takes memory, load calls
        reserve(bytes of all that it will hold, of the older value too if it goes on using that): the
        older value is then no longer offered to anybody. reserve may be called again, with more or
        less; its last word counts for as long as the value stays. load must not call `get`.

        poll is called while waiting. what names the value, as in "space 'clip'", when it is TooLarge.
        """
        found = self.peek(key, version)
        if found is not None:
            return found
        with self._lock:
            loader = self._loaders.setdefault(key, threading.Lock())
        # Threads that want the same thing wait for the first rather than loading it twice.
        while not loader.acquire(timeout=_WAIT_S):
            poll()
        try:
            found = self.peek(key, version)
            if found is not None:
                return found
            loaded_version, value = load(
                lambda: self._value(key), lambda nbytes: self._set_aside(key, nbytes, poll, what)
            )
            with self._lock:
                older = self._kept.pop(key, None)
                nbytes = self._being_loaded.pop(key, older.nbytes if older else 0)
                self._kept[key] = _Resident(loaded_version, value, nbytes)
            return value
        finally:
            with self._lock:
                self._being_loaded.pop(key, None)
                self._lock.notify_all()
            loader.release()

    @contextlib.contextmanager
    def lent(self, nbytes: int, poll: Callable[[], None], what: str) -> Iterator[None]:
        """Sets memory aside for as long as a computation works in it. Raises TooLarge, as `get`."""
        key = ("lent", object())
        try:
            self._set_aside(key, nbytes, poll, what)
            yield
        finally:
            with self._lock:
                self._being_loaded.pop(key, None)
                self._lock.notify_all()

    def peek(self, key: tuple[Hashable, ...], version: Hashable) -> Any:
        """The value of the key at that version if it is in memory, else None."""
        with self._lock:
            self._forget_gone()
            kept = self._kept.get(key)
            if kept is None or kept.version != version:
                return None
            self._kept.move_to_end(key)
            return kept.value

    def forget_when_gone(self, db: apsw.Connection, place: Hashable) -> None:
        """Drops everything of a place once its connection is garbage collected."""
        weakref.finalize(db, self._gone.append, place)

    @property
    def nbytes(self) -> int:
        """Bytes kept, and set aside for what is being loaded."""
        with self._lock:
            return self._used()

    def kept(self) -> list[tuple[Hashable, ...]]:
        """What is in memory now, least recently used first."""
        with self._lock:
            self._forget_gone()
            return list(self._kept)

    def _value(self, key: tuple[Hashable, ...]) -> Any:
        with self._lock:
            kept = self._kept.get(key)
            return kept.value if kept else None

    def _set_aside(
        self, key: tuple[Hashable, ...], nbytes: int, poll: Callable[[], None], what: str
    ) -> None:
        limit = memory_limit()
        if nbytes > limit:
            raise TooLarge(
                f"{what} needs {shown_bytes(nbytes)} of memory, more than the {shown_bytes(limit)} "
                f"allowed: set the environment variable {MEMORY_VARIABLE} to at least "
                f"{-(-nbytes // 10**6)}MB"
            )
        while True:
            with self._lock:
                self._kept.pop(key, None)
                others = sum(n for k, n in self._being_loaded.items() if k != key)
                # Only who holds nothing yet waits for others, so that nobody waits in a circle.
                if others + nbytes <= limit or key in self._being_loaded:
                    self._being_loaded[key] = nbytes
                    while self._kept and self._used() > limit:
                        self._kept.popitem(last=False)
                    return
                self._lock.wait(_WAIT_S)
            poll()

    def _used(self) -> int:
        kept: Iterator[int] = (resident.nbytes for resident in self._kept.values())
        return sum(kept) + sum(self._being_loaded.values())

    def _forget_gone(self) -> None:
        while self._gone:
            place = self._gone.popleft()
            for table in (self._kept, self._loaders):
                for key in [k for k in table if k[0] == place]:
                    del table[key]


residents = Residents()

# The place of each connection: asking the operating system takes as long as a small search's other steps.
_places: weakref.WeakKeyDictionary[apsw.Connection, Hashable] = weakref.WeakKeyDictionary()


def place_of(db: apsw.Connection) -> Hashable:
    """Which file a connection has open, equal for all connections to it; or which in-memory database.

    A copied file is another one. A file put in the place of another may get its number; what is kept of
    either is told apart by its version.
    """
    place = _places.get(db)
    if place is None:
        place = _places[db] = _find_place(db)
    return place


def _find_place(db: apsw.Connection) -> Hashable:
    if filename := db.db_filename("main"):
        # Deleted while open, it is not found: then, as in memory, it lives with the connection.
        with contextlib.suppress(FileNotFoundError):
            status = os.stat(filename)
            return status.st_dev, status.st_ino
    place = ("connection", id(db))
    residents.forget_when_gone(db, place)
    return place


def memory_limit() -> int:
    """Bytes that may be kept in memory: NEARSQL_MEMORY, or half of the machine's memory."""
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


def shown_bytes(count: int) -> str:
    """A number of bytes for a sentence: 1.54 GB, 0.056 MB."""
    return f"{count / 1e9:.3g} GB" if count >= 1e9 else f"{count / 1e6:.3g} MB"
