"""A run records what it did, how it ended, and never changes afterwards."""

import json
import os
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from nearsql.pipeline import replay, runs
from nearsql.pipeline.console import UserError
from nearsql.udfs import connection, dbapi


def row(db: dbapi.Connection, run_id: int, *columns: str) -> tuple[object, ...]:
    return db.execute(f"select {', '.join(columns)} from runs where id = ?", (run_id,)).fetchone()


def test_a_finished_run(db: dbapi.Connection, add_space) -> None:
    add_space("s", [[1.0], [2.0]])
    with runs.run(
        db,
        "test",
        parameters={"b": 2, "a": [1]},
        seed=7,
        inputs=[runs.space_input(db, "s")],
        packages=["hdbscan"],
    ) as current:
        # The start is on disk before the work, and no transaction is open during it.
        assert row(db, current.id, "status") == ("running",)
        assert not db.in_transaction
        with current.timed("step"):
            current.counts["seen"] = 3
        current.result_sha256 = "0" * 64
    status, parameters, seed, counts, error = row(
        db, current.id, "status", "parameters_json", "seed", "counts_json", "error"
    )
    assert (status, seed, error) == ("finished", 7, None)
    assert json.loads(parameters) == {"a": [1], "b": 2}
    assert json.loads(counts) == {"seen": 3}
    recorded = json.loads(row(db, current.id, "versions_json")[0])
    assert {"nearsql", "python", "sqlite", "apsw", "numpy", "hdbscan", "platform"} == set(recorded)
    assert recorded["sqlite"] == db.execute("select sqlite_version()").fetchone()[0]
    assert json.loads(row(db, current.id, "timings_json")[0])["step"] >= 0
    pinned = db.execute(
        "select name, generation, generation_token, rows from run_inputs"
    ).fetchone()
    assert pinned == (
        "s",
        *db.execute("select generation, generation_token from spaces").fetchone(),
        2,
    )


def test_a_failure_is_recorded_and_raised(db: dbapi.Connection) -> None:
    with pytest.raises(ZeroDivisionError), runs.run(db, "test", parameters={}) as current:
        db.execute("begin")
        db.execute("insert into selections (name, how) values ('half', 'ids')")
        1 / 0  # noqa: B018
    assert row(db, current.id, "status", "error") == (
        "failed",
        "ZeroDivisionError: division by zero",
    )
    assert db.execute("select count(*) from selections").fetchone() == (0,)


def test_results_and_their_end_in_one_transaction(db: dbapi.Connection) -> None:
    with runs.run(db, "test", parameters={}) as current:
        current.counts["made"] = 1
        with runs.immediate(db):
            db.execute("insert into selections (name, how) values ('whole', 'ids')")
            current.finish()
        assert row(db, current.id, "status", "counts_json") == ("finished", '{"made": 1}')
    assert row(db, current.id, "status", "error") == ("finished", None)
    # What fails before the commit takes both back, and is recorded as ever.
    with pytest.raises(ZeroDivisionError), runs.run(db, "test", parameters={}) as current:
        current.result_sha256 = "0" * 64
        with runs.immediate(db):
            db.execute("insert into selections (name, how) values ('half', 'ids')")
            current.finish()
            _ = 1 / 0
    ended = row(db, current.id, "status", "error", "result_sha256")
    assert ended == ("failed", "ZeroDivisionError: division by zero", None)
    # What fails after it changes nothing.
    with pytest.raises(KeyboardInterrupt), runs.run(db, "test", parameters={}) as current:
        with runs.immediate(db):
            current.finish()
        raise KeyboardInterrupt
    assert row(db, current.id, "status", "error") == ("finished", None)
    assert db.execute("select name from selections").fetchall() == [("whole",)]


def test_ctrl_c_is_an_interruption(db: dbapi.Connection) -> None:
    with pytest.raises(KeyboardInterrupt), runs.run(db, "test", parameters={}) as current:
        raise KeyboardInterrupt
    assert row(db, current.id, "status") == ("interrupted",)


def test_a_killed_process_leaves_a_run_that_the_next_one_ends(database: Path) -> None:
    script = (
        "import os, sys; from nearsql.pipeline.runs import run;"
        "from nearsql.udfs.connection import connect\n"
        "with run(connect(sys.argv[1]), 'test', parameters={}): os.kill(os.getpid(), 9)"
    )
    done = subprocess.run([sys.executable, "-c", script, str(database)], capture_output=True)
    assert done.returncode == -9, done.stderr
    db = connection.connect(database)
    assert row(db, 1, "status") == ("running",)
    with runs.run(db, "test", parameters={}) as current:
        assert runs.mark_interrupted(db) == 0  # this one is alive
    assert row(db, 1, "status") == ("interrupted",)
    assert row(db, current.id, "status") == ("finished",)
    db.close()


def test_a_stopped_run_goes_on_under_its_own_id(db: dbapi.Connection) -> None:
    with pytest.raises(KeyboardInterrupt), runs.run(db, "test", parameters={"a": 1}) as first:
        first.counts["seen"] = 3
        raise KeyboardInterrupt
    # Another run in all but the kind, the parameters or the seed is another run.
    for kind, parameters, seed in (("other", {"a": 1}, None), ("test", {"a": 2}, None)):
        with runs.run(db, kind, parameters=parameters, seed=seed, resume=True) as other:
            assert not other.is_resumed
    with runs.run(db, "test", parameters={"a": 1}, resume=True) as second:
        assert (second.id, second.is_resumed, second.counts) == (first.id, True, {"seen": 3})
        assert row(db, first.id, "status", "error") == ("running", None)
        second.counts["seen"] += 1
    status, counts = row(db, first.id, "status", "counts_json")
    assert (status, json.loads(counts)) == ("finished", {"seen": 4})
    # What has finished is not gone on with.
    with runs.run(db, "test", parameters={"a": 1}, resume=True) as third:
        assert third.id != first.id


def test_two_processes_do_not_go_on_with_the_same_run(database: Path) -> None:
    mine, theirs = connection.connect(database), connection.connect(database)
    with runs.run(mine, "test", parameters={}, resume=True) as current:
        doing = pytest.raises(UserError, match=f"run {current.id} is doing this now")
        with doing, runs.run(theirs, "test", parameters={}, resume=True):
            pass
    mine.close()
    theirs.close()


def test_only_its_status_moves_when_a_run_goes_on(db: dbapi.Connection) -> None:
    with pytest.raises(KeyboardInterrupt), runs.run(db, "test", parameters={}) as current:
        raise KeyboardInterrupt
    for change in ("seed = 9", "parameters_json = '{\"a\": 1}'", "counts_json = '{\"n\": 1}'"):
        with pytest.raises(sqlite3.IntegrityError, match="never changes"):
            db.execute(
                f"update runs set status = 'running', finished_at = null, error = null, {change}"
                " where id = ?",
                (current.id,),
            )


def test_immediate_rolls_back_everything(db: dbapi.Connection) -> None:
    with pytest.raises(sqlite3.IntegrityError), runs.immediate(db):
        db.execute("insert into selections (name, how) values ('a', 'ids')")
        db.execute("insert into selections (name, how) values ('a', 'ids')")
    assert not db.in_transaction
    assert db.execute("select count(*) from selections").fetchone() == (0,)


def test_item_errors_are_counted(db: dbapi.Connection) -> None:
    with runs.run(db, "test", parameters={}) as current, runs.immediate(db):
        current.item_error("read", "it is empty", uri="a.png")
    assert json.loads(row(db, current.id, "counts_json")[0]) == {"errors": 1}
    assert db.execute("select uri, stage, message from item_errors").fetchall() == [
        ("a.png", "read", "it is empty")
    ]


def test_unknown_inputs_are_a_sentence(db: dbapi.Connection) -> None:
    with pytest.raises(LookupError, match="no space 'nope'"):
        runs.space_input(db, "nope")
    with pytest.raises(LookupError, match="no run 99"):
        runs.run_input(db, 99)


def test_lineage_walks_through_spaces_inputs_and_parents(db: dbapi.Connection, add_space) -> None:
    add_space("s", [[1.0], [2.0]])
    with runs.run(db, "embed", parameters={}) as embed, runs.immediate(db):
        db.execute("update vectors set run_id = ?", (embed.id,))
    with runs.run(db, "cluster", parameters={}, inputs=[runs.space_input(db, "s")]) as cluster:
        pass
    with runs.run(db, "label", parameters={}, inputs=[runs.run_input(db, cluster.id)]) as label:
        pass
    assert db.execute(
        "select ancestor_run_id, ancestor_kind, relation, depth from run_lineage"
        " where run_id = ? order by depth",
        (label.id,),
    ).fetchall() == [(cluster.id, "cluster", "input", 1), (embed.id, "embed", "space s", 2)]


def test_replay_refuses_what_it_cannot_repeat(db: dbapi.Connection, add_space) -> None:
    add_space("s", [[1.0], [2.0]])
    with pytest.raises(LookupError, match="no run 99"):
        replay.replay(db, 99)
    with runs.run(db, "guess", parameters={}) as unknown:
        pass
    with pytest.raises(replay.CannotReplay, match="of kind 'guess'; what can be replayed is"):
        replay.replay(db, unknown.id)
    with runs.run(db, "cluster", parameters={}) as unhashed:
        pass
    with pytest.raises(replay.CannotReplay, match="no complete result"):
        replay.replay(db, unhashed.id)
    with runs.run(db, "cluster", parameters={}, inputs=[runs.space_input(db, "s")]) as stale:
        stale.result_sha256 = "0" * 64
    db.execute("delete from vectors where item_id = 1")
    db.commit()
    with pytest.raises(replay.CannotReplay, match="at generation 2; it is now at 3"):
        replay.replay(db, stale.id)
    db.execute("delete from spaces")
    db.commit()
    with pytest.raises(replay.CannotReplay, match="'s', which is deleted"):
        replay.replay(db, stale.id)


def test_this_process_names_host_and_pid() -> None:
    assert runs.this_process().endswith(f" {os.getpid()}")
