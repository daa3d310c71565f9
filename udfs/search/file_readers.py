"""More connections to a file that see the same vectors of a space: several threads read with them.

A space's generation and token are new with every change of its vectors, and a token is a random number.
So connections that see the same two see the same vectors, in whichever snapshot of the file. It is what
matrices in memory are found again by; here it lets threads read what one connection's snapshot shows.
"""

import contextlib
import os
from collections.abc import Iterator

import apsw

from nearsql.udfs.search.workers import worker_count
from nearsql.udfs.spaces import Space

# More threads wait for memory, and each connection costs a moment.
_MOST = 8
# Pages pass through a reader once.
_CACHE_KIB = 1024

_VERSION = "select generation, generation_token from spaces where id = ?"


@contextlib.contextmanager
def file_readers(db: apsw.Connection, space: Space) -> Iterator[list[apsw.Connection]]:
    """As many connections as there are threads to read with, each on a snapshot held for it.

    None where one thread has to read by the connection given: nothing is gained by more, it has changes
    of its own that are not committed, others changed the space since, or the file cannot be opened
    once more beside it (in memory, immutable, without a write-ahead log, locked, gone).
    """
    wanted = min(worker_count(), _MOST)
    readers: list[apsw.Connection] = []
    if wanted > 1 and _can_be_opened_again(db):
        version = db.execute(_VERSION, (space.id,)).fetchone()
        while len(readers) < wanted:
            reader = _reader(db, space, version)
            if reader is None:
                _close(readers)
                break
            readers.append(reader)
    try:
        yield readers
    finally:
        _close(readers)


def _can_be_opened_again(db: apsw.Connection) -> bool:
    """Whether opening the file leaves no trace, and snapshots do not lock writers out: in WAL mode.

    An immutable file is not; and a log whose file of shared memory is missing is one connection's own.
    """
    filename = db.db_filename("main")
    return bool(
        filename
        and db.txn_state("main") != apsw.SQLITE_TXN_WRITE
        and db.pragma("journal_mode") == "wal"
        and os.path.exists(f"{filename}-shm")
    )


def _reader(db: apsw.Connection, space: Space, version: object) -> apsw.Connection | None:
    """Another connection to the file, if it sees the space at that version."""
    try:
        reader = apsw.Connection(
            db.db_filename("main"), flags=apsw.SQLITE_OPEN_READONLY, vfs=db.open_vfs
        )
    except apsw.Error:
        return None
    try:
        reader.pragma("trusted_schema", False)
        reader.pragma("cache_size", -_CACHE_KIB)
        reader.execute("begin")  # which holds the snapshot of the first statement
        if reader.execute(_VERSION, (space.id,)).fetchone() == version:
            return reader
    except apsw.Error:
        pass
    reader.close()
    return None


def _close(readers: list[apsw.Connection]) -> None:
    """Closes them, but for one that a thread is still at after an interrupt: when that lets go of it."""
    while readers:
        with contextlib.suppress(apsw.Error):
            readers.pop().close()
