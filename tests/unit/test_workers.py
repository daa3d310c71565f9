"""Parts of a search in several threads: all done, in order, and left at once when interrupted."""

import os
import subprocess
import sys
import textwrap
import threading
import time
from collections.abc import Iterator
from typing import Any

import faiss
import pytest

from nearsql.udfs.search import workers
from nearsql.udfs.search.workers import MANY_NUMBERS, Stopped, in_order, in_threads

THREADS = 3


@pytest.fixture(autouse=True)
def several_threads() -> Iterator[None]:
    before = faiss.omp_get_max_threads()
    faiss.omp_set_num_threads(THREADS)
    yield
    faiss.omp_set_num_threads(before)
    deadline = time.monotonic() + 30
    while workers._working:  # what a test left behind ends
        assert time.monotonic() < deadline
        time.sleep(0.001)


@pytest.mark.parametrize("numbers", [0, MANY_NUMBERS])
@pytest.mark.parametrize("count", [0, 1, 2, 100])
def test_every_argument_is_called_once(numbers: int, count: int) -> None:
    called: list[int] = []
    in_threads(called.append, range(count), numbers)
    assert sorted(called) == list(range(count))
    results = in_order(lambda i, check: (check(), i * i), range(count), numbers)
    assert list(results) == [(None, i * i) for i in range(count)]


def test_the_parts_run_side_by_side() -> None:
    """Each part waits for all the others, which one thread could not do."""
    barrier = threading.Barrier(THREADS, timeout=30)
    in_threads(lambda _: barrier.wait(), range(THREADS), MANY_NUMBERS)
    assert len(list(in_order(lambda *_: barrier.wait(), range(THREADS), MANY_NUMBERS))) == THREADS


def test_what_a_part_calls_runs_in_its_own_thread() -> None:
    """Else all threads could be waiting for parts of parts that no thread is left for."""
    strangers: list[threading.Thread] = []
    calls: list[int] = []

    def part(_: int) -> None:
        own = threading.current_thread()

        def inner(i: int, _: Any = None) -> None:
            calls.append(i)
            if threading.current_thread() is not own:
                strangers.append(threading.current_thread())

        in_threads(inner, range(5), MANY_NUMBERS)
        list(in_order(inner, range(5), MANY_NUMBERS))

    in_threads(part, range(20), MANY_NUMBERS)
    assert len(calls) == 200
    assert not strangers


def test_results_are_computed_only_a_little_ahead() -> None:
    begun: list[int] = []
    results = in_order(lambda i, _: begun.append(i), range(100), MANY_NUMBERS)
    for taken in range(1, 20):
        next(results)
        assert len(begun) <= taken + THREADS + 1
    results.close()


@pytest.mark.parametrize("numbers", [0, MANY_NUMBERS])
def test_an_error_is_raised_and_the_rest_not_begun(numbers: int) -> None:
    called: list[int] = []

    def call(i: int, _: Any = None) -> None:
        called.append(i)
        if i == 3:
            raise ZeroDivisionError("part 3")

    with pytest.raises(ZeroDivisionError, match="part 3"):
        in_threads(call, range(1000), numbers)
    assert len(called) < 1000
    called.clear()
    with pytest.raises(ZeroDivisionError, match="part 3"):
        list(in_order(call, range(1000), numbers))
    assert len(called) < 1000


@pytest.mark.parametrize("how", ["in_threads", "in_order"])
def test_the_caller_leaves_while_a_part_is_still_computing(how: str) -> None:
    """However long a part takes, an interrupt acts, and the next search finds threads."""
    may_end = threading.Event()
    begun: list[int] = []

    def call(i: int, _: Any = None) -> None:
        begun.append(i)
        may_end.wait(60)

    def poll() -> None:
        if begun:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        if how == "in_threads":
            in_threads(call, range(1000), MANY_NUMBERS, poll)
        else:
            list(in_order(call, range(1000), MANY_NUMBERS, poll))
    assert not may_end.is_set()
    assert len(begun) <= THREADS
    done: list[int] = []
    in_threads(done.append, range(50), MANY_NUMBERS, lambda: None)
    assert len(done) == 50
    may_end.set()
    in_threads(done.append, range(50), MANY_NUMBERS)
    assert len(begun) <= THREADS


def test_an_abandoned_computation_stops() -> None:
    stopped = threading.Event()
    begun = threading.Event()

    def endless(i: int, check: Any) -> int:
        try:
            while i:
                begun.set()
                check()
        except Stopped:
            stopped.set()
            raise
        return i

    results = in_order(endless, range(100), MANY_NUMBERS)
    assert next(results) == 0
    assert begun.wait(30)
    results.close()
    assert stopped.wait(30)


def test_a_search_uses_only_what_others_leave() -> None:
    """Two threads of a server do not each take all cores; one thread is always there."""
    release = threading.Event()
    everyone = threading.Barrier(THREADS + 1, timeout=30)

    def occupy(_: int) -> None:
        everyone.wait()
        release.wait(30)

    other = threading.Thread(
        target=lambda: (
            faiss.omp_set_num_threads(THREADS),
            in_threads(occupy, range(THREADS), MANY_NUMBERS),
        )
    )
    other.start()
    everyone.wait()
    assert workers.worker_count() == 1
    called: list[int] = []
    in_threads(called.append, range(10), MANY_NUMBERS, lambda: None)
    assert called == list(range(10))  # one thread, in order
    release.set()
    other.join()


def run(script: str, *arguments: str, **variables: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", textwrap.dedent(script), *arguments],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
        env={**os.environ, **variables},
    )


SEARCHES = """
    import signal, sys, threading
    import numpy as np
    from nearsql.udfs.search import neighbors
    from nearsql.udfs.search.matrix import Matrix
    from nearsql.udfs.spaces import Space

    def matrix(n, d):
        vectors = np.random.default_rng(0).integers(-9, 9, (n, d)).astype(np.float32)
        return Matrix(np.arange(n, dtype=np.int64), vectors, Space(1, "s", d, "ip", 0, 0))

    signal.signal(signal.SIGINT, signal.default_int_handler)  # a background shell ignores it
"""


def test_control_c_at_any_moment_leaves_nothing_hanging() -> None:
    """Interrupts from the first microseconds of a search on; each time the next one is right."""
    script = (
        SEARCHES
        + """
    signal.signal(signal.SIGALRM, signal.default_int_handler)
    many = matrix(9000, 64)
    wanted = np.sort(-(many.vectors @ many.vectors[0]))[:5]
    interrupts = 0
    for i in range(150):
        try:
            signal.setitimer(signal.ITIMER_REAL, 1e-5 + 4e-5 * i)
            if i % 2:
                for _ in range(1000):
                    neighbors.nearest(many, many.vectors[:1], 5, poll=lambda: None)
            else:
                for _ in neighbors.graph_blocks(many, 5, poll=lambda: None):
                    pass
        except KeyboardInterrupt:
            interrupts += 1
        signal.setitimer(signal.ITIMER_REAL, 0)
        _, distances = neighbors.nearest(many, many.vectors[:1], 5, poll=lambda: None)
        assert (distances[0] == wanted).all(), distances
    print(interrupts, threading.active_count())
    """
    )
    # Every search counts as large.
    script = script.replace(
        "many = ", "neighbors.in_order.__globals__['MANY_NUMBERS'] = 1; many = "
    )
    done = run(script, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
    interrupts, threads = map(int, done.stdout.split())
    assert interrupts > 100
    assert threads < 50  # those an interrupt made lose are few


def test_control_c_ends_the_process_without_a_crash() -> None:
    """BLAS frees its memory when the process exits: threads must have ended by then."""
    script = (
        SEARCHES
        + """
    large = matrix(60_000, 512)
    timer = threading.Timer(0.4, lambda: signal.raise_signal(signal.SIGINT))
    timer.start()
    for _ in neighbors.graph_blocks(large, 5):
        pass
    """
    )
    done = run(script, OMP_NUM_THREADS="2")
    assert done.returncode == -2, (done.returncode, done.stderr)  # as Python ends on Ctrl-C
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


def test_a_forked_process_searches_too() -> None:
    script = (
        SEARCHES
        + """
    import os
    many = matrix(60_000, 80)
    before, _ = neighbors.nearest(many, many.vectors[:1], 5, poll=lambda: None)
    assert threading.active_count() > 1
    child = os.fork()
    if not child:
        signal.alarm(60)
        after, _ = neighbors.nearest(many, many.vectors[:1], 5, poll=lambda: None)
        os._exit(0 if (after == before).all() else 3)
    assert os.waitpid(child, 0)[1] == 0
    """
    )
    done = run(script, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr


def test_eight_threads_at_once_find_what_one_finds() -> None:
    script = (
        SEARCHES
        + """
    many = matrix(9000, 64)
    scores = -(many.vectors[:600].astype(np.float64) @ many.vectors.T)
    order = np.argsort(scores, axis=1, kind="stable")[:, :6]
    wrong, threads = [], []

    def search(i):
        for j in range(12):
            m = (1, 2, 40, 600)[(i + j) % 4]
            at = 0 if m == 600 else (37 * i + j) % 500
            ids, _ = neighbors.nearest(many, many.vectors[at : at + m], 6, poll=lambda: None)
            if not (ids == order[at : at + m]).all():
                wrong.append((at, m))
        for start, places, _ in neighbors.graph_blocks(many, 3):
            own = np.arange(start, start + len(places))
            if (places == own[:, None]).any():
                wrong.append(start)

    for i in range(8):
        threads.append(threading.Thread(target=search, args=(i,)))
        threads[-1].start()
    for thread in threads:
        thread.join()
    import faiss
    assert not wrong, wrong
    assert faiss.cvar.distance_compute_blas_threshold > 1
    """
    )
    script = script.replace(
        "many = ", "neighbors.in_order.__globals__['MANY_NUMBERS'] = 1; many = "
    )
    done = run(script, OMP_NUM_THREADS="2")
    assert done.returncode == 0, done.stderr
