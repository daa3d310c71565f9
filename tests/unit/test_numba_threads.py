"""One call at a time of what runs numba's parallel loops."""

import threading
import time

import numba
import pytest

from nearsql.udfs.numba_threads import alone_in_one_thread


def test_one_thread_within_and_as_before_afterwards() -> None:
    before = numba.get_num_threads()
    with pytest.raises(KeyError), alone_in_one_thread():
        assert numba.get_num_threads() == 1
        raise KeyError
    assert numba.get_num_threads() == before
    with alone_in_one_thread():
        pass


def test_calls_do_not_overlap() -> None:
    inside: list[str] = []
    overlaps: list[list[str]] = []

    def work(name: str) -> None:
        with alone_in_one_thread():
            inside.append(name)
            time.sleep(0.02)
            overlaps.append(list(inside))
            inside.remove(name)

    threads = [threading.Thread(target=work, args=(str(i),)) for i in range(5)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [len(names) for names in overlaps] == [1] * 5


def test_who_waits_polls_and_may_leave() -> None:
    is_held, is_over = threading.Event(), threading.Event()

    def hold() -> None:
        with alone_in_one_thread():
            is_held.set()
            is_over.wait()

    holder = threading.Thread(target=hold)
    holder.start()
    is_held.wait()

    def stop() -> None:
        raise TimeoutError("enough")

    try:
        with pytest.raises(TimeoutError, match="enough"), alone_in_one_thread(stop):
            raise AssertionError("two at once")
    finally:
        is_over.set()
        holder.join()
    with alone_in_one_thread():
        pass
