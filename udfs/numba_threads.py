"""Libraries that run numba's parallel loops: one call of them at a time, in one thread if need be.

Where neither TBB nor OpenMP is installed, numba ends the whole process when two threads start parallel
loops at once, as two questions to a Datasette would. And sums that several threads add up depend on how
many there are, so that the same seed would give another result on another machine.
"""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

_lock = threading.Lock()
# How long one waits for another's call without polling.
_WAIT_S = 0.05


@contextmanager
def alone(poll: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Within the block, this thread is the only one here.

    poll is called while others are at it, and may raise.
    """
    while not _lock.acquire(timeout=_WAIT_S):
        poll()
    try:
        yield
    finally:
        _lock.release()


@contextmanager
def alone_in_one_thread(poll: Callable[[], None] = lambda: None) -> Iterator[None]:
    """As `alone`; and numba's loops take one thread."""
    import numba

    with alone(poll):
        before = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            yield
        finally:
            numba.set_num_threads(before)
