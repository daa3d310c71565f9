"""`nearsql neighbors` stopped, short of memory, beside others: a graph is whole or not at all."""

import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from stored_graphs import GRAPH, change, ctrl_c, points, status, stop_after, stored

from nearsql.pipeline import neighbor_rows
from nearsql.pipeline import neighbors as module
from nearsql.pipeline.console import UserError
from nearsql.pipeline.neighbors import neighbors, stored_neighbors
from nearsql.pipeline.replay import replay
from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search import memory

Fill = Callable[..., int]


@pytest.mark.parametrize("blocks", [1, 3, 7])
def test_interrupted_it_goes_on_where_it_was(
    db: dbapi.Connection,
    add_space: Fill,
    monkeypatch: pytest.MonkeyPatch,
    small_blocks: None,
    blocks: int,
) -> None:
    add_space("s", np.eye(50), metric="ip")  # minus 0 all over, of which SQLite keeps no sign
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, blocks, ctrl_c)
        neighbors(db, ["s"], k=4)
    assert status(db, 1) == "interrupted"
    written = min(blocks * 8, 50)
    assert len(stored(db, 1)) == written * 4
    assert stored_neighbors(db, "s", 4) is None
    (result,) = neighbors(db, ["s"], k=4)
    assert result.run_id == 1
    assert result.counts == {"items": 50, "neighbors": 200, "already": written}
    assert stored(db, 1) == db.execute(GRAPH, ("s", 4)).fetchall()
    assert replay(db, 1).is_same


@pytest.mark.parametrize(
    "tampering",
    [
        "delete from neighbors where item_id = 2",
        "delete from neighbors where item_id = 3 and rank = 1",
        "delete from neighbors where item_id > 4",
        "update neighbors set item_id = 40 where item_id = 2",
        "update neighbors set rank = 9 where item_id = 2 and rank = 1",
    ],
)
def test_rows_that_somebody_changed_are_written_anew(
    db: dbapi.Connection,
    add_space: Fill,
    monkeypatch: pytest.MonkeyPatch,
    small_blocks: None,
    tampering: str,
) -> None:
    add_space("s", points(50))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, 2, ctrl_c)
        neighbors(db, ["s"], k=4)
    db.execute(tampering)
    db.commit()
    (result,) = neighbors(db, ["s"], k=4)
    assert "already" not in result.counts
    assert stored(db, 1) == db.execute(GRAPH, ("s", 4)).fetchall()
    assert replay(db, 1).is_same


def test_what_stopped_and_cannot_go_on_leaves_no_rows(
    db: dbapi.Connection,
    add_space: Fill,
    monkeypatch: pytest.MonkeyPatch,
    small_blocks: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    for name in ("s", "other"):
        add_space(name, points(50))
        with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
            stop_after(patched, 2, ctrl_c)
            neighbors(db, [name], k=4)
    change(db)  # no run goes on with vectors that are others now
    (result,) = neighbors(db, ["s"], k=4, quiet=False)
    assert "removed the rows of run 1, which had stopped on the way" in capsys.readouterr().err
    assert result.run_id == 3
    assert stored(db, 1) == []
    assert len(stored(db, 2)) == 64  # of another space, which may go on
    assert stored(db, 3) == db.execute(GRAPH, ("s", 4)).fetchall()


@pytest.mark.parametrize("blocks", [1, 6])
def test_a_space_that_changes_meanwhile_leaves_no_rows(
    db: dbapi.Connection,
    add_space: Fill,
    monkeypatch: pytest.MonkeyPatch,
    small_blocks: None,
    blocks: int,
) -> None:
    add_space("s", points(50))
    monkeypatch.setattr(neighbor_rows, "_ROWS_REMOVED", 5)
    with monkeypatch.context() as patched:
        stop_after(patched, blocks, lambda: change(db))
        with pytest.raises(UserError, match=r"space 's' changed during this run.* are removed"):
            neighbors(db, ["s"], k=4)
    assert status(db, 1) == "failed"
    assert db.execute("select count(*) from neighbors").fetchone() == (0,)
    (result,) = neighbors(db, ["s"], k=4)
    assert result.run_id == 2
    assert stored(db, 2) == db.execute(GRAPH, ("s", 4)).fetchall()


def test_a_change_before_the_vectors_are_read_is_seen_with_nothing_left_to_write(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    add_space("s", points(16))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, 2, ctrl_c)
        neighbors(db, ["s"], k=4)
    load = module.load_matrix

    def late(*args: Any) -> Any:
        change(db)
        return load(*args)

    with monkeypatch.context() as patched:
        patched.setattr(module, "load_matrix", late)
        with pytest.raises(UserError, match="the vectors of space 's' changed during this run"):
            neighbors(db, ["s"], k=4)
    assert stored_neighbors(db, "s", 4) is None
    (result,) = neighbors(db, ["s"], k=4)
    assert (result.run_id, stored(db, 1)) == (2, [])
    assert stored(db, 2) == db.execute(GRAPH, ("s", 4)).fetchall()


def test_blocks_are_written_together_until_they_are_many(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    add_space("s", points(66))
    monkeypatch.setattr(neighbor_rows, "_ROWS_A_WRITE", 70)  # three blocks of 32 rows
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, 2, ctrl_c)
        neighbors(db, ["s"], k=4)
    assert len(stored(db, 1)) == 2 * 3 * 32
    monkeypatch.setattr(neighbor_rows, "_ROWS_A_WRITE", 10**6)
    monkeypatch.setattr(neighbor_rows, "_SECONDS_A_WRITE", 0.0)  # as when a block takes long
    written = []
    stop_after(monkeypatch, 1, lambda: written.append(len(stored(db, 1))))
    (result,) = neighbors(db, ["s"], k=4)
    assert written == [7 * 32]
    assert result.counts["already"] == 48
    assert stored(db, 1) == db.execute(GRAPH, ("s", 4)).fetchall()
    assert replay(db, 1).is_same


@pytest.fixture
def little_memory(monkeypatch: pytest.MonkeyPatch, small_blocks: None) -> None:
    """Room for a few of the 300 items that the space then has."""
    monkeypatch.setenv("NEARSQL_MEMORY", "6000B")


def test_a_space_that_does_not_fit_in_memory(
    db: dbapi.Connection,
    add_space: Fill,
    monkeypatch: pytest.MonkeyPatch,
    little_memory: None,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_space("s", points(300))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, 5, ctrl_c)
        neighbors(db, ["s"], k=4)
    assert len(stored(db, 1)) == 5 * 32
    (result,) = neighbors(db, ["s"], k=4, quiet=False)
    assert re.search(
        r"s: 300 items, 1,200 rows, about .* in the file\. The vectors are read from the file over and"
        r" over, which takes longer: space 's' needs .* more than the .* set the environment variable",
        capsys.readouterr().err,
    )
    assert (result.run_id, result.counts["already"]) == (1, 40)
    assert replay(db, 1).is_same
    monkeypatch.delenv("NEARSQL_MEMORY")
    assert stored(db, 1) == db.execute(GRAPH, ("s", 4)).fetchall()
    assert replay(db, 1).is_same


def test_a_space_that_does_not_fit_changes_meanwhile(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch, little_memory: None
) -> None:
    """Seen when its next part is read, before anything is written."""
    add_space("s", points(300))
    with monkeypatch.context() as patched:
        stop_after(patched, 3, lambda: change(db))
        with pytest.raises(UserError, match=r"space 's' changed during this run.* are removed"):
            neighbors(db, ["s"], k=4)
    assert status(db, 1) == "failed"
    assert db.execute("select count(*) from neighbors").fetchone() == (0,)


def test_too_little_memory_for_anything_is_said_and_keeps_what_was_written(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    add_space("s", points(300))
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, 5, ctrl_c)
        neighbors(db, ["s"], k=4)
    # Forgets the matrix, and leaves no room for even some of it.
    monkeypatch.setattr(memory, "residents", memory.Residents())
    with monkeypatch.context() as patched:
        patched.setenv("NEARSQL_MEMORY", "100B")
        with pytest.raises(SqlFunctionError, match="NEARSQL_MEMORY"):
            neighbors(db, ["s"], k=4)
    assert len(stored(db, 1)) == 5 * 32
    (result,) = neighbors(db, ["s"], k=4)
    assert (result.run_id, result.counts["already"]) == (1, 40)


def test_others_write_while_it_computes(
    db: dbapi.Connection,
    add_space: Fill,
    database: Path,
    monkeypatch: pytest.MonkeyPatch,
    small_blocks: None,
) -> None:
    add_space("s", points(50))
    blocks = module.exact_graph_blocks

    def beside(*args: Any, **options: Any) -> Any:
        for number, block in enumerate(blocks(*args, **options)):
            assert not db.in_transaction
            other = dbapi.connect(database, timeout=0)
            other.execute("insert into metadata (key, value) values (?, '1')", (f"{number}",))
            other.commit()
            other.close()
            yield block

    monkeypatch.setattr(module, "exact_graph_blocks", beside)
    (result,) = neighbors(db, ["s"], k=4)
    assert len(stored(db, result.run_id)) == 200


KILLED = """
import sys, time
from nearsql.pipeline import neighbor_rows
from nearsql.pipeline import neighbors as module
from nearsql.udfs import connection
from nearsql.udfs.search import row_search as search
search.QUERY_BLOCK = neighbor_rows.QUERY_BLOCK = 8
neighbor_rows._ROWS_A_WRITE = 1
write = module.write_block
def slowly(*args):
    write(*args)
    time.sleep(0.2)
module.write_block = slowly
module.neighbors(connection.connect(sys.argv[1]), ["s"], k=4)
"""


def test_killed_in_the_middle_and_run_again(
    db: dbapi.Connection, add_space: Fill, database: Path, small_blocks: None
) -> None:
    add_space("s", points(400))
    process = subprocess.Popen([sys.executable, "-c", KILLED, str(database)])
    deadline = time.monotonic() + 30
    while db.execute("select count(*) from neighbors").fetchone()[0] < 64:
        assert time.monotonic() < deadline
        assert process.poll() is None
        time.sleep(0.01)
    with pytest.raises(
        UserError, match=r"run 1 is doing this now \(process .*\): let it end first"
    ):
        neighbors(db, ["s"], k=4)
    process.send_signal(signal.SIGKILL)
    process.wait()
    left = len(stored(db, 1))
    assert 64 <= left < 1600
    assert left % 32 == 0  # whole blocks only
    assert stored_neighbors(db, "s", 4) is None
    (result,) = neighbors(db, ["s"], k=4)
    assert (result.run_id, result.counts["already"]) == (1, left // 4)
    assert stored(db, 1) == db.execute(GRAPH, ("s", 4)).fetchall()
    assert replay(db, 1).is_same
