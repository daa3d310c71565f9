"""Runs the parts of a search in several threads, while the caller waits and lets interrupts act.

The threads are this module's own. A KeyboardInterrupt while concurrent.futures starts a thread leaves
one behind that nothing wakes, and the interpreter waits for it at exit for ever. Here a caller that
leaves, for whatever reason, takes the parts not begun with it; the threads end what they are at, and
nothing waits for them but the exit of the process, for a moment.
"""

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from queue import Empty, SimpleQueue
from typing import Any, TypeVar

from nearsql.udfs.search.faiss_calls import faiss_module

Argument = TypeVar("Argument")
Result = TypeVar("Result")
Poll = Callable[[], None]

# Work on so many numbers is worth several threads.
MANY_NUMBERS = 1 << 22
# How long a waiting caller goes without polling.
_WAIT_S = 0.02
# How long the process waits at exit for threads to end the part they are at.
_EXIT_S = 5.0


class Stopped(Exception):
    """Nobody waits for the result any more. Raised in a worker, and seen only there."""


# Threads without work. `deque` and `set` change in one step under the interpreter's lock, so that no
# lock is held here that an interrupt could leave locked.
_idle: "deque[_Worker]" = deque()
_working: "set[_Worker]" = set()
_is_closing = False


class _Worker(threading.Thread):
    """A thread that does one piece of work after the other."""

    def __init__(self) -> None:
        super().__init__(name="nearsql-search", daemon=True)
        self.work: SimpleQueue[tuple[Callable[[], BaseException | None], SimpleQueue[Any]]] = (
            SimpleQueue()
        )

    def run(self) -> None:
        # faiss and its BLAS take one thread in each of these: parts side by side need not wait for
        # each other, as the threads within one matrix product do.
        faiss_module().omp_set_num_threads(1)
        while True:
            work, ended = self.work.get()
            _working.add(self)
            error = work()
            del work  # what it refers to, such as a whole matrix
            _working.discard(self)
            _idle.append(self)
            ended.put(error)
            del error, ended


def worker_count() -> int:
    """How many threads a search begun now should use: as many as faiss, less those at work already."""
    if isinstance(threading.current_thread(), _Worker):
        return 1
    return max(1, int(faiss_module().omp_get_max_threads()) - len(_working))


def in_threads(
    call: Callable[[Argument], None],
    arguments: Sequence[Argument],
    numbers: int,
    poll: Poll | None = None,
) -> None:
    """Calls for each argument, in several threads if there are many numbers to look at.

    The calls should spend their time in numpy and faiss, which let other threads run meanwhile. poll is
    called every now and then by the caller's thread; what it raises ends the wait at once. What a call
    raises is raised here, after the others have ended theirs.
    """
    threads = min(worker_count(), len(arguments))
    is_inside = isinstance(threading.current_thread(), _Worker)
    if is_inside or numbers < MANY_NUMBERS or (threads <= 1 and poll is None):
        for argument in arguments:
            call(argument)
            if poll:
                poll()
        return
    left = deque(arguments)

    def work() -> BaseException | None:
        try:
            while not _is_closing:
                try:
                    argument = left.popleft()
                except IndexError:
                    return None
                call(argument)
            raise Stopped
        except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
            left.clear()
            return error

    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    try:
        for _ in range(threads):
            _hand_over(work, ended)
        errors = [_wait(ended, poll) for _ in range(threads)]
    finally:
        left.clear()
    for error in errors:
        if error is not None:
            raise error


def in_order(
    call: Callable[[Argument, Poll], Result],
    arguments: Iterable[Argument],
    numbers: int,
    poll: Poll | None = None,
) -> Iterator[Result]:
    """The result of each call, in the order of the arguments.

    Computed ahead in several threads if there are many numbers to look at. call: given an argument and a
    function that it should call now and then, which raises when the results are no longer wanted. poll is
    called by the caller's thread while it waits; what it raises, and what a call raises, is raised here.
    """
    if numbers < MANY_NUMBERS or isinstance(threading.current_thread(), _Worker):
        for argument in arguments:
            yield call(argument, poll or _no_poll)
        return
    threads = worker_count()
    todo: SimpleQueue[tuple[int, Argument] | None] = SimpleQueue()
    done: SimpleQueue[tuple[int, Result | None, BaseException | None]] = SimpleQueue()
    is_over = threading.Event()

    def check() -> None:
        if is_over.is_set() or _is_closing:
            raise Stopped

    def work() -> BaseException | None:
        while (task := todo.get()) is not None:
            place, argument = task
            try:
                check()
                done.put((place, call(argument, check), None))
            except BaseException as error:  # noqa: BLE001 - the caller's thread raises it
                done.put((place, None, error))
        return None

    ended: SimpleQueue[BaseException | None] = SimpleQueue()
    tasks = enumerate(arguments)
    # One more than there are threads: none runs out of work while the caller is busy with a result.
    unfinished = deque(islice(tasks, threads + 1))
    results: dict[int, Any] = {}
    threads = min(threads, len(unfinished))
    try:
        for task in unfinished:
            todo.put(task)
        for _ in range(threads):
            _hand_over(work, ended)
        while unfinished:
            place, _ = unfinished.popleft()
            while place not in results:
                found, result, error = _wait(done, poll)
                if error is not None:
                    raise error
                results[found] = result
            for task in islice(tasks, 1):
                unfinished.append(task)
                todo.put(task)
            yield results.pop(place)
    finally:
        is_over.set()
        for _ in range(threads):
            todo.put(None)
    # All results are there: that the threads are idle again takes only a moment.
    for _ in range(threads):
        _wait(ended, poll)


def _no_poll() -> None:
    """For who has nobody to ask."""


def _hand_over(work: Callable[[], BaseException | None], ended: SimpleQueue[Any]) -> None:
    """Has the work done by an idle thread, or a new one; it puts what `work` returns into `ended`."""
    try:
        worker = _idle.pop()
    except IndexError:
        worker = _Worker()
        worker.start()
    worker.work.put((work, ended))


def _wait(queue: SimpleQueue[Any], poll: Poll | None) -> Any:
    """The next thing in the queue, polling until it comes."""
    while True:
        try:
            return queue.get(timeout=_WAIT_S)
        except Empty:
            if poll:
                poll()


def _after_fork() -> None:
    """A child process has none of its parent's threads."""
    _idle.clear()
    _working.clear()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


@atexit.register
def _close() -> None:
    """Lets threads end the part they are at, since BLAS frees its memory when the process exits."""
    global _is_closing
    _is_closing = True
    deadline = time.monotonic() + _EXIT_S
    while _working and time.monotonic() < deadline:
        time.sleep(0.01)
