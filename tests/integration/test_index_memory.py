"""knn by an index where memory is scarce, threads share it, or another process writes."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from searched_indexes import add, facts, knn, look_everywhere, refusal, rows

from nearsql.pipeline.index.build import index
from nearsql.udfs import connection, dbapi
from nearsql.udfs.search.memory import Residents

Fill = Callable[..., int]


def test_memory_that_is_too_little(
    indexed: dbapi.Connection, fresh: Residents, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = rows(indexed, "select * from knn('s', 1, 10, null, 1)")
    whole = rows(indexed, "select bytes from vector_indexes where engine = 'hnsw'")[0][0]
    fresh._kept.clear()
    monkeypatch.setenv("NEARSQL_MEMORY", f"{whole - 1}")
    message = refusal(indexed, "select * from knn('s', 1, 10) where engine = 'hnsw'")
    assert "the hnsw index of space 's' needs" in message
    assert "set the environment variable NEARSQL_MEMORY" in message
    assert exact  # and with enough, it answers
    monkeypatch.setenv("NEARSQL_MEMORY", f"{whole}")
    assert len(knn(indexed, 1, 10, "hnsw")) == 10
    assert fresh.nbytes <= whole


def test_ivf_reads_its_lists_anew_where_memory_is_scarce(
    db: dbapi.Connection, add_space: Fill, fresh: Residents, monkeypatch: pytest.MonkeyPatch
) -> None:
    vectors = np.random.default_rng(0).standard_normal((2000, 16))
    add_space("s", vectors)
    index(db, ["s"], "ivf", lists=40)
    db.execute(
        "update vector_indexes set parameters_json ="
        " json_set(parameters_json, '$.search.\"10\".effort', 4)"
    )
    asked = "select id from items where id % 20 = 0"
    sql = "select query, id, distance from knn_batch('s', ?, 10)"
    enough = rows(db, sql, asked)
    fresh._kept.clear()
    limit = 100_000
    monkeypatch.setenv("NEARSQL_MEMORY", f"{limit}")
    assert rows(db, sql, asked) == enough
    assert 0 < facts(db, "s")["bytes_in_memory"] <= limit
    assert fresh.nbytes <= limit
    monkeypatch.setenv("NEARSQL_MEMORY", "77000")
    fresh._kept.clear()
    assert "4 lists that a query looks at take more" in refusal(db, sql, asked)


def test_changes_that_do_not_fit_memory_are_searched_in_the_file(
    db: dbapi.Connection, add_space: Fill, fresh: Residents, monkeypatch: pytest.MonkeyPatch
) -> None:
    draw = np.random.default_rng(0)
    add_space("s", draw.standard_normal((100, 16)))
    index(db, ["s"], "hnsw")
    look_everywhere(db)
    for item in range(101, 1201):
        add(db, item, draw.standard_normal(16))
    db.execute("delete from vectors where item_id in (3, 700)")
    exact = rows(db, "select id, distance, rank from knn('s', 5, 20, null, 1)")
    fresh._kept.clear()
    monkeypatch.setenv("NEARSQL_MEMORY", "60000")
    assert knn(db, 5, 20, "hnsw") == exact


def test_vec0_answers_by_itself_only_when_memory_is_too_little(
    db: dbapi.Connection, add_space: Fill, fresh: Residents, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", np.random.default_rng(0).standard_normal((300, 16)))
    index(db, ["s"], "vec0")
    plan = facts(db, "s")
    assert plan["engine"] == "exact"
    assert plan["reason"].startswith("the vec0 index is for when the vectors do not fit")
    exact = rows(db, "select * from knn('s', 1, 10)")
    monkeypatch.setenv("NEARSQL_MEMORY", "10000")
    fresh._kept.clear()
    plan = facts(db, "s")
    assert (plan["engine"], plan["reason"]) == ("vec0", "the vectors do not fit the memory allowed")
    assert rows(db, "select * from knn('s', 1, 10)") == exact
    monkeypatch.delenv("NEARSQL_MEMORY")
    index(db, ["s"], "ivf")
    assert facts(db, "s")["engine"] == "ivf"


def test_threads_share_one_index_while_it_reads_its_lists(
    database: Path, db: dbapi.Connection, add_space: Fill, fresh: Residents
) -> None:
    add_space("s", np.random.default_rng(0).standard_normal((3000, 16)))
    index(db, ["s"], "ivf", lists=60)
    sql = "select id, distance from knn('s', ?, 10)"
    expected = {item: rows(db, sql, item) for item in range(1, 161)}
    fresh._kept.clear()
    wrong: list[Any] = []
    barrier = threading.Barrier(8)

    def ask(thread: int) -> None:
        mine = connection.connect(database)
        try:
            barrier.wait()
            for item in range(1 + thread, 161, 8):
                if rows(mine, sql, item) != expected[item]:
                    wrong.append(item)
        except sqlite3.Error as error:
            wrong.append(error)
        finally:
            mine.close()

    threads = [threading.Thread(target=ask, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert [key[1] for key in fresh.kept()].count("index") == 1


def test_another_process_writes(indexed: dbapi.Connection, database: Path) -> None:
    query = json.dumps([9.0] * 16)
    before = knn(indexed, query, 3, "ivf")
    code = (
        "import sys, numpy as np, nearsql; db = nearsql.connect(sys.argv[1]);"
        "db.execute('update vectors set vector = ? where item_id = 7',"
        " (np.full(16, 9, '<f4').tobytes(),)); db.commit();"
        "print(db.execute(\"select id from knn('s', 7, 2)\").fetchall())"
    )
    ran = subprocess.run(
        [sys.executable, "-c", code, str(database)], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
    after = knn(indexed, query, 3, "ivf")
    assert after[0] == (7, 0.0, 1)
    assert [item for item, _, _ in after[1:]] == [i for i, _, _ in before if i != 7][:2]
    others = json.loads(ran.stdout.replace("(", "[").replace(",)", "]"))
    assert [item for (item,) in others] == [i for i, _, _ in after[1:]]


def test_an_index_of_an_older_snapshot_is_not_mixed_with_a_newer(
    indexed: dbapi.Connection, database: Path
) -> None:
    """A reader that began before a change goes on without it; both are right, in turn."""
    reader = connection.connect(database)
    reader.execute("begin")
    query = json.dumps([9.0] * 16)
    before = knn(reader, query, 3, "hnsw")
    indexed.execute(
        "update vectors set vector = ? where item_id = 7", (np.full(16, 9, "<f4").tobytes(),)
    )
    indexed.commit()
    for _ in range(2):
        assert knn(indexed, query, 3, "hnsw")[0] == (7, 0.0, 1)
        assert knn(reader, query, 3, "hnsw") == before
    reader.rollback()
    assert knn(reader, query, 3, "hnsw")[0] == (7, 0.0, 1)
    reader.close()


def test_whoever_writes_between_two_blocks_of_queries_is_told(
    db: dbapi.Connection, add_space: Fill
) -> None:
    add_space("s", np.random.default_rng(0).standard_normal((1100, 2)))
    index(db, ["s"], "ivf")
    cursor = db.execute("select id from knn_batch('s', 'select id from items', 1)")
    cursor.fetchone()
    db.execute("delete from vectors where item_id = 1100")
    with pytest.raises(sqlite3.OperationalError, match="changed while they were being read"):
        cursor.fetchall()
