"""Time limits and interrupts act inside one long call."""

import signal
import sqlite3
import threading
from collections.abc import Callable
from typing import Any

import apsw
import faiss
import numpy as np
import pytest

from nearsql.udfs import dbapi, interrupt
from nearsql.udfs.interrupt import Poll
from nearsql.udfs.search import row_search, workers

Fill = Callable[..., int]


@pytest.fixture
def raw() -> apsw.Connection:
    return apsw.Connection(":memory:")


def test_it_asks_the_progress_handler(
    raw: apsw.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(interrupt, "INTERVAL_S", 0)
    calls = []
    raw.set_progress_handler(lambda: bool(calls.append(1)), 1000)  # as often as Datasette asks
    poll = Poll(raw)
    for polled in range(1, 6):
        poll()
        assert len(calls) >= polled
    raw.set_progress_handler(lambda: True, 1000)
    with pytest.raises(apsw.InterruptError):
        poll()


def test_it_does_so_only_every_now_and_then(raw: apsw.Connection) -> None:
    raw.set_progress_handler(lambda: True, 1)
    poll = Poll(raw)
    poll()
    poll._next = 0.0
    with pytest.raises(apsw.InterruptError):
        poll()


def stop_at(
    call: int, what: Callable[[], Any], monkeypatch: pytest.MonkeyPatch
) -> Callable[[], int]:
    """Does something when faiss is called for that time; gives a function that counts its calls."""
    calls = 0
    knn = faiss.knn

    def counted(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            what()
        return knn(*args)

    monkeypatch.setattr(faiss, "knn", counted)
    monkeypatch.setattr(interrupt, "INTERVAL_S", 0)
    monkeypatch.setattr(row_search, "QUERY_BLOCK", 10)
    return lambda: calls


STATEMENTS = (
    "select count(*) from knn_graph('s', 3)",
    "select count(*) from knn_batch('s', 'select id from items', 3)",
)


@pytest.mark.parametrize("sql", STATEMENTS)
def test_an_interrupt_ends_the_search(
    db: dbapi.Connection, add_space: Fill, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", np.random.default_rng(0).standard_normal((100, 4)))
    calls = stop_at(3, db.interrupt, monkeypatch)
    with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$") as caught:
        db.execute(sql).fetchall()
    assert caught.value.args == ("interrupted",)  # what Datasette looks for
    assert calls() == 3
    monkeypatch.undo()
    assert db.execute(STATEMENTS[0]).fetchone()[0] == 300  # the connection goes on


@pytest.mark.parametrize("sql", STATEMENTS)
def test_a_time_limit_ends_the_search(
    db: dbapi.Connection, add_space: Fill, sql: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", np.random.default_rng(0).standard_normal((100, 4)))
    is_over = False

    def end() -> None:
        nonlocal is_over
        is_over = True

    calls = stop_at(2, end, monkeypatch)
    db.set_progress_handler(lambda: is_over, 1000)
    with pytest.raises(sqlite3.OperationalError, match=r"^interrupted$"):
        db.execute(sql).fetchall()
    assert calls() == 2
    db.set_progress_handler(None, 0)


def test_control_c_ends_the_search(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", np.random.default_rng(0).standard_normal((100, 4)))
    calls = stop_at(2, lambda: signal.raise_signal(signal.SIGINT), monkeypatch)
    # A test run in the background of a shell starts with Ctrl-C ignored.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt):
            db.execute(STATEMENTS[0]).fetchall()
    finally:
        signal.signal(signal.SIGINT, before)
    assert calls() == 2


WHILE_COMPUTING = (
    *STATEMENTS,
    "select count(*) from knn('s', 1, 3)",
    "select count(*) from knn_batch('s', '[1, 2, 3, 4, 5, 6, 7]', 3)",
)


@pytest.mark.parametrize("sql", WHILE_COMPUTING)
@pytest.mark.parametrize("how", ["time limit", "interrupt", "control-c"])
def test_it_ends_while_faiss_is_still_computing(
    db: dbapi.Connection, add_space: Fill, sql: str, how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However long one call of faiss takes: here it takes until the test says so."""
    add_space("s", np.random.default_rng(0).standard_normal((100, 4)))
    monkeypatch.setattr(workers, "MANY_NUMBERS", 0)
    is_computing, may_end = threading.Event(), threading.Event()

    def lasting(call: Callable[..., Any]) -> Callable[..., Any]:
        def lasts(*arguments: Any) -> Any:
            is_computing.set()
            assert may_end.wait(60)
            return call(*arguments)

        return lasts

    for name in ("knn", "fvec_inner_products_by_idx", "fvec_L2sqr_by_idx"):
        monkeypatch.setattr(faiss, name, lasting(getattr(faiss, name)))

    def stop() -> None:
        assert is_computing.wait(60)
        if how == "interrupt":
            db.interrupt()
        elif how == "control-c":
            signal.raise_signal(signal.SIGINT)

    if how == "time limit":
        db.set_progress_handler(is_computing.is_set, 1000)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    stopper = threading.Thread(target=stop)
    stopper.start()
    try:
        with pytest.raises(KeyboardInterrupt if how == "control-c" else sqlite3.OperationalError):
            db.execute(sql).fetchall()
        assert not may_end.is_set()
    finally:
        may_end.set()
        stopper.join()
        signal.signal(signal.SIGINT, before)
        db.set_progress_handler(None, 0)
    monkeypatch.undo()
    assert db.execute(STATEMENTS[0]).fetchone()[0] == 300  # the connection goes on
