"""`nearsql neighbors`: the stored graph equals knn_graph, whole or not at all."""

import json
import re
import shlex
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearsql.pipeline import neighbors as module
from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.neighbors import neighbors, stored_neighbors
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import connection, dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search import exact_search, memory
from nearsql.udfs.search import neighbors as search

Fill = Callable[..., int]

STORED = "select item_id, neighbor_id, distance, rank from neighbors where run_id = ? order by 1, 4"
GRAPH = "select id, neighbor_id, distance, rank from knn_graph(?, ?) order by 1, 4"


@pytest.fixture
def small_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of eight items, so that few items are several transactions."""
    monkeypatch.setattr(search, "QUERY_BLOCK", 8)
    monkeypatch.setattr(module, "QUERY_BLOCK", 8)
    monkeypatch.setattr(exact_search, "QUERY_BLOCK", 8)
    monkeypatch.setattr(module, "_ROWS_A_WRITE", 1)


def points(n: int, seed: int = 0, d: int = 3) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


def stored(db: dbapi.Connection, run_id: int | None) -> list[tuple[Any, ...]]:
    return db.execute(STORED, (run_id,)).fetchall()


def status(db: dbapi.Connection, run_id: int) -> str:
    return str(db.execute("select status from runs where id = ?", (run_id,)).fetchone()[0])


def change(db: dbapi.Connection) -> None:
    """The space is another one after this, of as many vectors."""
    db.execute("update vectors set vector = ? where item_id = 7", (np.ones(3, "<f4").tobytes(),))
    db.commit()


def stop_after(monkeypatch: pytest.MonkeyPatch, blocks: int, act: Callable[[], None]) -> None:
    """Something happens when so many blocks are written."""
    write, written = module._write, []

    def then(*args: Any) -> None:
        write(*args)
        written.append(1)
        if len(written) == blocks:
            act()

    monkeypatch.setattr(module, "_write", then)


def ctrl_c() -> None:
    raise KeyboardInterrupt


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_the_rows_are_those_of_knn_graph(
    db: dbapi.Connection, add_space: Fill, metric: str, small_blocks: None
) -> None:
    rows = points(50)
    rows[[3, 11, 30]] = 0  # of no direction, and duplicates of each other
    add_space("s", rows, metric=metric, first_item=100)
    (result,) = neighbors(db, ["s"], k=7)
    assert stored(db, result.run_id) == db.execute(GRAPH, ("s", 7)).fetchall()
    assert result.counts == {"items": 50, "neighbors": 350}
    assert result.is_new
    found = db.execute(
        "select status, kind, parameters_json, counts_json, length(result_sha256) from runs"
    ).fetchone()
    pin = db.execute("select generation, generation_token from spaces").fetchone()
    assert found[:2] == ("finished", "neighbors")
    assert json.loads(found[2]) == {
        "method": "exact",
        "space": "s",
        "k": 7,
        "generation": pin[0],
        "generation_token": pin[1],
    }
    assert (json.loads(found[3]), found[4]) == (result.counts, 64)
    inputs = "select kind, name, generation, generation_token, rows from run_inputs"
    assert db.execute(inputs).fetchall() == [("space", "s", *pin, 50)]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=2, max_size=20),
    k=st.integers(1, 25),
)
def test_brute_force_ties_and_more_neighbours_than_there_are(
    db: dbapi.Connection, add_space: Fill, rows: list[tuple[int, int]], k: int, small_blocks: None
) -> None:
    """Points on a small grid: most distances are ties, and many items are duplicates."""
    db.execute("delete from spaces")
    db.execute("delete from items")
    vectors = np.array(rows, float)
    add_space("s", vectors)
    (result,) = neighbors(db, ["s"], k=k)
    expected = []
    for a, vector in enumerate(vectors):
        squares = ((vectors - vector) ** 2).sum(axis=1)
        order = [b for b in np.lexsort((np.arange(len(rows)), squares)) if b != a][:k]
        for rank, b in enumerate(order, start=1):
            expected.append((a + 1, int(b) + 1, pytest.approx(np.sqrt(squares[b])), rank))
    assert stored(db, result.run_id) == expected


def test_a_space_without_two_items_is_skipped_with_the_reason(
    db: dbapi.Connection, add_space: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    add_space("empty", np.empty((0, 2)))
    add_space("one", np.ones((1, 2)))
    add_space("two", np.ones((2, 2)))
    results = neighbors(db, ["empty", "one", "two", "two"], k=5)
    assert [(r.space, r.run_id, r.counts["items"]) for r in results] == [
        ("empty", None, 0),
        ("one", None, 1),
        ("two", 1, 2),
    ]
    said = capsys.readouterr().err
    assert "skipped empty: it has 0 items, and 2 are needed to be neighbours" in said
    assert "skipped one: it has 1 item, and 2 are needed" in said
    assert stored(db, 1) == [(1, 2, 0.0, 1), (2, 1, 0.0, 1)]
    assert db.execute("select count(*) from runs").fetchone() == (1,)


def test_a_second_run_has_nothing_to_do(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", points(12))
    assert stored_neighbors(db, "s", 1) is None
    (first,) = neighbors(db, ["s"], k=5)
    for k in (5, 3):
        assert stored_neighbors(db, "s", k) == first.run_id
        (again,) = neighbors(db, ["s"], k=k)
        assert (again.run_id, again.is_new) == (first.run_id, False)
    assert stored_neighbors(db, "s", 6) is None
    with pytest.raises(SqlFunctionError, match="there is no space 't'"):
        stored_neighbors(db, "t", 5)
    (more,) = neighbors(db, ["s"], k=11)
    assert more.is_new
    # Eleven are all the others that there are: no k asks for more.
    assert stored_neighbors(db, "s", 99) == more.run_id
    change(db)
    assert stored_neighbors(db, "s", 5) is None
    (new,) = neighbors(db, ["s"], k=5)
    assert new.is_new
    assert stored(db, new.run_id) == db.execute(GRAPH, ("s", 5)).fetchall()
    assert len(stored(db, first.run_id)) == 12 * 5  # an earlier result stays
    # As in a backup whose vectors were changed as often, in another way.
    db.execute("update spaces set generation_token = generation_token / 2 + 1")
    assert stored_neighbors(db, "s", 5) is None


def test_replay_and_what_it_needs(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", points(40), metric="ip")
    (result,) = neighbors(db, ["s"], k=4)
    assert result.run_id is not None
    db.execute("update spaces set name = 'renamed'")
    db.commit()
    assert replay(db, result.run_id).is_same
    change(db)
    with pytest.raises(CannotReplay, match="its vectors have changed"):
        replay(db, result.run_id)


def test_the_hash_tells_graphs_apart(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("a", points(20))
    add_space("b", points(20, seed=1))
    for k in (4, 5):
        neighbors(db, ["a", "b"], k=k)
    hashes = [h for (h,) in db.execute("select result_sha256 from runs")]
    assert len(set(hashes)) == 4


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
    monkeypatch.setattr(module, "_ROWS_REMOVED", 5)
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
    monkeypatch.setattr(module, "_ROWS_A_WRITE", 70)  # three blocks of 32 rows
    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        stop_after(patched, 2, ctrl_c)
        neighbors(db, ["s"], k=4)
    assert len(stored(db, 1)) == 2 * 3 * 32
    monkeypatch.setattr(module, "_ROWS_A_WRITE", 10**6)
    monkeypatch.setattr(module, "_SECONDS_A_WRITE", 0.0)  # as when a block takes long
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
        r"s: 300 items, 1,200 rows, about .* in the file\. The vectors are read from the file over and over,"
        r" which takes longer: space 's' needs .* more than the .* set the environment variable",
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
from nearsql.pipeline import neighbors as module
from nearsql.udfs import connection
from nearsql.udfs.search import neighbors as search
search.QUERY_BLOCK = module.QUERY_BLOCK = 8
module._ROWS_A_WRITE = 1
write = module._write
def slowly(*args):
    write(*args)
    time.sleep(0.2)
module._write = slowly
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


def test_refusals_are_sentences(db: dbapi.Connection, add_space: Fill) -> None:
    with pytest.raises(LookupError, match="no space 's': the spaces are none; run `nearsql embed`"):
        neighbors(db, ["s"])
    add_space("s", points(5))
    with pytest.raises(LookupError, match=r"there is no space 't': the spaces are s$"):
        neighbors(db, ["s", "t"])
    with pytest.raises(UserError, match="k must be at least 1, not 0"):
        neighbors(db, ["s"], k=0)
    with pytest.raises(UserError, match="name the spaces"):
        neighbors(db, [])
    assert db.execute("select count(*) from runs").fetchone() == (0,)


def test_command(db: dbapi.Connection, add_space: Fill, database: Path) -> None:
    add_space("s", points(40), first_item=11)
    arguments = ["neighbors", str(database), "s", "-k", "6"]
    outcome = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0
    assert "s: 40 items, 240 rows, about 14.9 kB in the file and 0 seconds" in outcome.output
    assert "run 1: s\n  items      40\n  neighbors  240\n" in outcome.output
    query = (
        "select rank, neighbor_id, distance from neighbors where run_id = 1 and item_id = 11"
        " order by rank"
    )
    assert len(db.execute(query).fetchall()) == 6
    assert shlex.split(outcome.output.partition("next: ")[2]) == [
        "nearsql",
        "sql",
        str(database),
        query,
    ]
    again = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "nothing to do: run 1 has these neighbours of s" in again.output
    assert query in again.output
    assert db.execute("select count(*) from runs").fetchone() == (1,)


def test_command_with_nothing_to_store(
    db: dbapi.Connection, add_space: Fill, database: Path
) -> None:
    add_space("one", np.ones((1, 2)))
    with pytest.raises(UserError, match="no neighbours were stored: see above"):
        CliRunner().invoke(cli, ["neighbors", str(database), "one"], catch_exceptions=False)
    unnamed = CliRunner().invoke(cli, ["neighbors", str(database)])
    assert unnamed.exit_code == 2
    assert "Missing argument 'SPACE...'" in unnamed.output


def test_deleting_the_run_deletes_its_graph(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", points(10))
    (result,) = neighbors(db, ["s"])
    assert result.counts["neighbors"] == 90
    db.execute("delete from runs where id = ?", (result.run_id,))
    assert db.execute("select count(*) from neighbors").fetchone() == (0,)
    assert stored_neighbors(db, "s", 3) is None


def test_a_copy_is_served_by_its_own_run(
    db: dbapi.Connection, add_space: Fill, tmp_path: Path
) -> None:
    """A file's copy keeps its graph until its vectors change, whatever happens to the first."""
    add_space("s", points(10))
    (result,) = neighbors(db, ["s"], k=3)
    db.execute("vacuum into ?", (str(tmp_path / "copy.db"),))
    change(db)
    copy = connection.connect(tmp_path / "copy.db")
    assert stored_neighbors(copy, "s", 3) == result.run_id
    assert stored_neighbors(db, "s", 3) is None
    copy.close()
