"""`nearsql index` while others write, stop it, kill it or delete its space: an index is whole, or is not there."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from built_indexes import change, parts, points, rows

from nearsql.pipeline.console import UserError
from nearsql.pipeline.index import index, make, store
from nearsql.pipeline.index.check import check_indexes
from nearsql.udfs import connection, dbapi
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]


def test_what_changes_while_it_is_built_is_found(
    db: dbapi.Connection,
    database: Path,
    add_space: Fill,
    small_samples: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = points(900)
    add_space("s", vectors)
    build = make.build

    def meanwhile(*args: Any, **options: Any) -> Any:
        other = connection.connect(database)
        other.execute("delete from vectors where item_id between 1 and 40")
        change(other, item=100)
        other.close()
        return build(*args, **options)

    monkeypatch.setattr(make, "build", meanwhile)
    (result,) = index(db, ["s"], "hnsw", min_recall=0)
    assert result.n == 900
    (finding,) = [f for f in check_indexes(db) if f.check.startswith("changes")]
    assert (finding.checked, finding.wrong) == (41, 0)
    query = "select id, distance from knn('s', ?, 10, null, ?)"
    one = np.ones(8, "<f4").tobytes()
    assert db.execute(query, (one, 0)).fetchone() == (100, 0.0)
    assert not {i for (i, _) in db.execute(query, (vectors[5].tobytes(), 0))} & set(range(1, 41))


@pytest.mark.parametrize("engine", ["hnsw", "ivf", "vec0"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_stopped_build_leaves_nothing_and_the_older_index_serves(
    db: dbapi.Connection,
    add_space: Fill,
    small_samples: None,
    monkeypatch: pytest.MonkeyPatch,
    engine: Any,
    error: type[BaseException],
) -> None:
    add_space("s", points(600))
    (older,) = index(db, ["s"], engine)
    change(db)
    before = db.execute("select count(*) from vector_index_chunks").fetchone()

    def stop(*args: Any) -> None:
        raise error("stopped")

    monkeypatch.setattr(store, "make_ready", stop)
    with pytest.raises(error):
        index(db, ["s"], engine)
    status = db.execute("select status from runs order by id desc limit 1").fetchone()[0]
    assert status == ("interrupted" if error is KeyboardInterrupt else "failed")
    if engine == "vec0":  # its one table was being made anew
        assert rows(db) == [] or [row["is_ready"] for row in rows(db)] == [0]
        query = "select count(*) from knn('s', 1, 5)"
    else:
        assert [(row["run_id"], row["is_ready"]) for row in rows(db)] == [(older.run_id, 1)]
        assert db.execute("select count(*) from vector_index_chunks").fetchone() == before
        query = f"select count(*) from knn('s', 1, 5) where engine = '{engine}'"
    assert db.execute(query).fetchone() == (5,)
    monkeypatch.undo()
    (new,) = index(db, ["s"], engine)
    assert [(row["run_id"], row["is_ready"]) for row in rows(db)] == [(new.run_id, 1)]


KILLED = """
import os, signal, sys
from nearsql.pipeline.index import index, store
from nearsql.udfs import connection
write, count = store._write, 0
def then(*args):
    global count
    write(*args)
    count += 1
    if count == {writes}:
        os.kill(os.getpid(), signal.SIGKILL)
store._write = then
store.CHUNK_BYTES = 5000
if {writes} == 0:
    store.make_ready = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
index(connection.open_database(sys.argv[1]), ["s"], sys.argv[2])
"""


@pytest.mark.parametrize(("engine", "writes"), [("hnsw", 2), ("ivf", 3), ("ivf", 0), ("vec0", 0)])
def test_killed_the_older_serves_and_the_next_run_cleans_up(
    db: dbapi.Connection,
    database: Path,
    add_space: Fill,
    small_samples: None,
    engine: Any,
    writes: int,
) -> None:
    add_space("s", points(600))
    index(db, ["s"], engine)
    change(db)
    program = KILLED.format(writes=writes)
    done = subprocess.run([sys.executable, "-c", program, str(database), engine])
    assert done.returncode == -signal.SIGKILL
    ready = [row["is_ready"] for row in rows(db)]
    assert ready == ([0, 0] if engine == "vec0" else [1, 0])
    if engine != "vec0":
        assert len(parts(db, rows(db)[1]["id"])) > 0
        found = db.execute(f"select count(*) from knn('s', 1, 5) where engine = '{engine}'")
        assert found.fetchone() == (5,)
    (new,) = index(db, ["s"], engine)
    assert [(row["id"], row["is_ready"]) for row in rows(db)] == [(new.index_id, 1)]
    chunks = db.execute("select distinct index_id from vector_index_chunks").fetchall()
    assert chunks == ([] if engine == "vec0" else [(new.index_id,)])
    assert db.execute("select status from runs where id = 2").fetchone() == ("interrupted",)
    assert all(finding.wrong == 0 for finding in check_indexes(db))


def test_a_chunked_index_is_read_like_a_whole_one(
    db: dbapi.Connection, add_space: Fill, small_samples: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", points(600))
    index(db, ["s"], "ivf")
    whole = parts(db, rows(db)[0]["id"])
    monkeypatch.setattr(store, "CHUNK_BYTES", 1000)
    index(db, ["s"], "hnsw")
    change(db)
    db.execute("update vectors set vector = ? where item_id = 7", (points(600)[6].tobytes(),))
    db.commit()
    index(db, ["s"], "ivf")
    (row,) = [row for row in rows(db) if row["engine"] == "ivf"]
    sizes = "select max(length(data)), count(*) from vector_index_chunks where index_id = ?"
    largest, count = db.execute(sizes, (row["id"],)).fetchone()
    assert largest <= 1000
    assert count > len(whole)
    assert parts(db, row["id"]) == whole
    assert all(finding.wrong == 0 for finding in check_indexes(db))


def test_two_that_make_the_same_index_do_not_meet(
    db: dbapi.Connection, add_space: Fill, small_samples: None
) -> None:
    add_space("s", points(300))
    db.execute(
        "insert into runs (kind, process) values ('index', ?)", (f"elsewhere {os.getpid()}",)
    )
    db.commit()
    store.begin(db, find_space(db.apsw, "s"), 1, "vec0", 0)
    assert store.remove_leftovers(db) == []
    with pytest.raises(UserError, match=r"run 1 is making the vec0 index of 's': let it end first"):
        index(db, ["s"], "vec0")
    index(db, ["s"], "hnsw")
    db.execute("update runs set status = 'failed', error = 'x', finished_at = 'now' where id = 1")
    db.commit()
    assert store.remove_leftovers(db) == ["the unfinished vec0 index of s (run 1)"]
    assert [row["engine"] for row in rows(db)] == ["hnsw"]


def test_a_space_that_is_deleted_meanwhile(
    db: dbapi.Connection, add_space: Fill, small_samples: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", points(300))
    write = store.write

    def meanwhile(*args: Any) -> Any:
        db.execute("delete from spaces")
        db.commit()
        return write(*args)

    monkeypatch.setattr(store, "write", meanwhile)
    with pytest.raises(UserError, match="the space was deleted while its index was made"):
        index(db, ["s"])
    assert rows(db) == []
