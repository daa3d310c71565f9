"""Work ahead in threads equals the plain loop, takes no more than its bound, and ends cleanly."""

import subprocess
import sys
import threading
import time
from collections.abc import Iterator

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.pipeline.ahead import map_ahead


@settings(deadline=None, max_examples=30)
@given(st.lists(st.floats(0, 0.002), max_size=20), st.integers(1, 9))
def test_results_come_in_the_order_of_the_inputs(delays, ahead) -> None:
    def work(pair: tuple[int, float]) -> int:
        time.sleep(pair[1])
        return pair[0]

    expected = [number for number, _ in enumerate(delays)]
    assert list(map_ahead(work, enumerate(delays), ahead=ahead)) == expected


def test_inputs_are_taken_in_the_callers_thread_and_no_further_than_the_bound() -> None:
    taken: list[int] = []

    def inputs() -> Iterator[int]:
        for number in range(100):
            assert threading.current_thread() is threading.main_thread()
            taken.append(number)
            yield number

    results = map_ahead(lambda number: number, inputs(), ahead=5)
    for done in range(10):
        assert next(results) == done
        assert len(taken) <= done + 1 + 5
    results.close()  # type: ignore[attr-defined]
    assert len(taken) < 100


def test_an_exception_is_raised_in_its_turn() -> None:
    results = map_ahead(lambda number: 1 // number, [2, 1, 0, 1], ahead=4)
    assert next(results) == 0
    assert next(results) == 1
    with pytest.raises(ZeroDivisionError):
        next(results)


INTERRUPTED = """
import itertools, sys, threading
from nearsql.pipeline.ahead import map_ahead

def interrupt_at(number):
    events = itertools.count()
    def trace(frame, event, argument):
        if next(events) == number:
            sys.settrace(None)
            raise KeyboardInterrupt
        return trace
    return trace

interrupted = 0
for number in range(100_000):
    results = map_ahead(abs, range(-9, 3), ahead=2)
    assert next(results) == 9  # the threads run: starting one is the standard library's own risk
    sys.settrace(interrupt_at(number))
    try:
        assert list(results) == [8, 7, 6, 5, 4, 3, 2, 1, 0, 1, 2]
    except KeyboardInterrupt:
        interrupted += 1
    else:
        break
    finally:
        sys.settrace(None)
print(interrupted)
"""


def test_ctrl_c_at_any_moment_ends_it() -> None:
    """At each call, line and return of the caller's thread in turn: none may leave a deadlock."""
    command = [sys.executable, "-c", INTERRUPTED]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert ended.returncode == 0, ended.stderr
    assert int(ended.stdout) > 50
