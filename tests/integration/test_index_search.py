"""knn by an index: as exact as its candidates, never out of date, and refused where it would be wrong."""

import json
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from nearsql.pipeline.index.build import index
from nearsql.udfs import connection, dbapi
from nearsql.udfs.search import memory
from nearsql.udfs.search.memory import Residents

Fill = Callable[..., int]
ENGINES = ("hnsw", "ivf", "vec0")
METRICS = ("cosine", "l2", "ip")


def rows(db: dbapi.Connection, sql: str, *parameters: Any) -> list[Any]:
    return [tuple(row) for row in db.execute(sql, parameters).fetchall()]


def knn(db: dbapi.Connection, query: Any, k: int, engine: str, space: str = "s") -> list[Any]:
    sql = "select id, distance, rank from knn(?, ?, ?) where engine = ?"
    return rows(db, sql, space, query, k, engine)


def look_everywhere(db: dbapi.Connection) -> None:
    """Makes every index look at all that it has, so that it must find what the exact search finds."""
    how = {"effort": 2**31 - 1, "candidates": 1000}
    for k in (1, 10, 100):
        db.execute(
            "update vector_indexes set parameters_json = json_set(parameters_json, ?, json(?))",
            (f'$.search."{k}"', json.dumps(how)),
        )
    db.commit()


def facts(db: dbapi.Connection, *arguments: Any, **named: Any) -> dict[str, Any]:
    where = "".join(f" and {name} = ?" for name in named)
    marks = ", ".join("?" * len(arguments))
    sql = f"select fact, value from search_plan({marks}) where 1{where}"
    return dict(rows(db, sql, *arguments, *named.values()))


@pytest.fixture
def fresh(monkeypatch: pytest.MonkeyPatch) -> Residents:
    """Nothing in memory yet."""
    monkeypatch.setattr(memory.residents, "_kept", type(memory.residents._kept)())
    return memory.residents


@pytest.fixture(scope="module")
def digits() -> Iterator[dbapi.Connection]:
    """900 images of digits in three spaces by metric, each with the indexes that it can have."""
    db = connection.create(":memory:")
    images = load_digits().data[:900].astype("<f4")
    for metric in METRICS:
        db.execute(
            "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', 64, ?)",
            (metric, metric),
        )
    for item, image in enumerate(images, start=1):
        db.execute(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'tests', ?, 'x', 0)",
            (item, f"{item:064x}"),
        )
        db.execute(
            "insert into vectors (space_id, item_id, vector) select id, ?, ? from spaces",
            (item, image.tobytes()),
        )
    db.commit()
    for engine in ENGINES:
        names = METRICS[:2] if engine == "vec0" else METRICS
        index(db, names, engine, min_recall=0.9)
    yield db
    db.close()


def on_digits() -> list[tuple[str, str]]:
    pairs = [(metric, engine) for metric in METRICS for engine in ENGINES]
    return [pair for pair in pairs if pair != ("ip", "vec0")]


@pytest.mark.parametrize(("metric", "engine"), on_digits())
@pytest.mark.parametrize("k", [1, 10, 37])
def test_it_finds_what_it_promises(
    digits: dbapi.Connection, metric: str, engine: str, k: int
) -> None:
    asked = "select id from items where id % 9 = 0"
    sql = "select query, rank, id, distance from knn_batch(?, ?, ?) where exact = ? and engine = ?"
    exact = rows(digits, sql, metric, asked, k, 1, "exact")
    found = rows(digits, sql, metric, asked, k, 0, engine)
    assert [row[:2] for row in found] == [row[:2] for row in exact]
    # Of equally near items each will do.
    farthest = {query: distance for query, _, _, distance in exact}
    recall = np.mean([distance <= farthest[query] for query, _, _, distance in found])
    assert recall > (0.9 if metric == "ip" else 0.98)
    # A distance is right to the last bit, whoever found it.
    truth = {
        (query, item): distance
        for query, item, distance in rows(
            digits, "select query, id, distance from knn_batch(?, ?, 900, null, 1)", metric, asked
        )
    }
    assert all(truth[query, item] == distance for query, _, item, distance in found)


@pytest.mark.parametrize(("metric", "engine"), on_digits())
def test_many_queries_get_what_one_gets(digits: dbapi.Connection, metric: str, engine: str) -> None:
    vectors = "select id, vector from vectors where space_id = 1 and item_id between 200 and 300"
    for asked in ("select id from items where id <= 150", vectors):
        for k in (3, 60):
            many = rows(
                digits,
                "select query, id, distance, rank from knn_batch(?, ?, ?) where engine = ?",
                metric,
                asked,
                k,
                engine,
            )
            alone = [
                (query[0], *row)
                for query in rows(digits, asked)
                for row in rows(
                    digits,
                    "select id, distance, rank from knn(?, ?, ?) where engine = ?",
                    metric,
                    query[-1],
                    k,
                    engine,
                )
            ]
            assert many == alone


@pytest.mark.parametrize(("metric", "engine"), on_digits())
def test_it_is_used_without_being_asked_for(
    digits: dbapi.Connection, metric: str, engine: str
) -> None:
    plan = facts(digits, metric)
    newest = rows(
        digits,
        "select x.engine, x.run_id, x.bytes from vector_indexes x join spaces s on s.id = x.space_id"
        " where s.name = ? and engine <> 'vec0' order by x.id desc",
        metric,
    )[0]
    assert (plan["engine"], plan["run_id"], plan["bytes_in_file"]) == newest
    assert (plan["is_exact"], plan["rows"], plan["changed_since_build"]) == (0, 900, 0)
    assert knn(digits, 7, 10, newest[0], metric) == rows(
        digits, "select id, distance, rank from knn(?, 7, 10)", metric
    )
    named = facts(digits, metric, engine=engine)
    assert (named["engine"], named["reason"]) == (engine, f"engine = '{engine}' was asked for")
    assert 0.9 <= named["recall"] <= 1


def test_when_the_exact_search_answers(digits: dbapi.Connection) -> None:
    for arguments, why in (
        ({"k": 101}, "recall of the ivf index was measured up to k = 100"),
        ({"k": 101, "engine": "hnsw"}, "recall of the hnsw index was measured up to k = 100"),
        ({"exact": 1}, "exact = 1 was asked for"),
        ({"engine": "exact"}, "engine = 'exact' was asked for"),
        ({"within": "select 1"}, "a search with `within` is always exact"),
    ):
        plan = facts(digits, "l2", **arguments)
        assert (plan["engine"], plan["is_exact"], plan["reason"]) == ("exact", 1, why)
        assert plan["recall"] == 1
    exact = rows(digits, "select id, distance from knn('l2', 5, 300, null, 1)")
    assert rows(digits, "select id, distance from knn('l2', 5, 300)") == exact
    within = "select id from items where id % 2"
    exact = rows(digits, "select id, distance from knn('l2', 5, 10, ?, 1)", within)
    assert rows(digits, "select id, distance from knn('l2', 5, 10, ?)", within) == exact
    assert all(item % 2 for item, _ in exact)


@pytest.mark.parametrize("engine", ENGINES)
def test_a_query_of_zeros_is_as_far_from_everything(digits: dbapi.Connection, engine: str) -> None:
    zeros = np.zeros(64, "<f4").tobytes()
    assert knn(digits, zeros, 3, engine, "cosine") == [(1, 1.0, 1), (2, 1.0, 2), (3, 1.0, 3)]
    if engine != "vec0":
        assert knn(digits, zeros, 2, engine, "ip") == [(1, 0.0, 1), (2, 0.0, 2)]


# It equals the exact search when it looks everywhere, whatever happens to the space.

small = st.integers(-2, 2).map(float)


@settings(max_examples=30, deadline=None)
@given(st.data())
def test_it_equals_the_exact_search(data: st.DataObject) -> None:
    n, d = data.draw(st.integers(2, 40)), data.draw(st.integers(1, 5))
    metric, engine = data.draw(st.sampled_from(on_digits()))
    vectors = np.array(
        data.draw(st.lists(st.lists(small, min_size=d, max_size=d), min_size=n, max_size=n))
    )
    db = connection.create(":memory:")
    fill(db, vectors, metric)
    index(db, ["s"], engine, min_recall=0)
    look_everywhere(db)
    for k in (1, 3, n + 5):
        for query in [1, n, json.dumps(data.draw(st.lists(small, min_size=d, max_size=d)))]:
            assert_exact(db, engine, query, k)
    db.close()


def fill(db: dbapi.Connection, vectors: np.ndarray, metric: str) -> None:
    db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('s', 'embedding', ?, ?)",
        (vectors.shape[1], metric),
    )
    for item, vector in enumerate(vectors.astype("<f4"), start=1):
        add(db, item, vector)
    db.commit()


def add(db: dbapi.Connection, item: int, vector: np.ndarray) -> None:
    db.execute(
        "insert or ignore into items (id, kind, collection, sha256, content, sequence_number)"
        " values (?, 'text', 'tests', ?, 'x', 0)",
        (item, f"{item:064x}"),
    )
    db.execute(
        "insert into vectors (space_id, item_id, vector) values (1, ?, ?)",
        (item, vector.astype("<f4").tobytes()),
    )


def assert_exact(db: dbapi.Connection, engine: str, query: Any, k: int) -> None:
    exact = rows(db, "select id, distance, rank from knn('s', ?, ?, null, 1)", query, k)
    assert knn(db, query, k, engine) == exact


@settings(max_examples=25, deadline=None)
@given(st.data())
def test_it_is_never_out_of_date(data: st.DataObject) -> None:
    """Inserts, updates, replacements, deletes, rollbacks: the next search knows them."""
    metric, engine = data.draw(st.sampled_from(on_digits()))
    draw = np.random.default_rng(data.draw(st.integers(0, 99)))
    db = connection.create(":memory:")
    fill(db, draw.integers(-3, 4, (25, 3)), metric)
    index(db, ["s"], engine, min_recall=0)
    look_everywhere(db)
    for action in data.draw(
        st.lists(
            st.sampled_from(["add", "update", "replace", "delete", "back", "keep", "clear"]),
            min_size=1,
            max_size=8,
        )
    ):
        there = [item for (item,) in rows(db, "select item_id from vectors order by item_id")]
        vector = draw.integers(-3, 4, 3).astype("<f4")
        item = int(draw.choice(there)) if there else 1
        if action == "add":
            add(db, int(max([*there, 30])) + 1, vector)
        elif action == "update":
            db.execute("update vectors set vector = ? where item_id = ?", (vector.tobytes(), item))
        elif action == "replace":
            db.execute("delete from vectors where item_id = ?", (item,))
            add(db, item, vector)
        elif action == "delete":
            db.execute("delete from vectors where item_id = ?", (item,))
        elif action == "back":
            db.rollback()
        elif action == "keep":
            db.commit()
        elif data.draw(st.integers(0, 3)) == 0:
            db.execute("delete from vectors")
        for query in ("[1, 0, 2]", "[0, 0, 0]"):
            for k in (1, 7):
                assert_exact(db, engine, query, k)
        if there := [item for (item,) in rows(db, "select item_id from vectors limit 2")]:
            assert_exact(db, engine, there[-1], 4)
    db.close()


@pytest.mark.parametrize("engine", ENGINES)
def test_there_are_always_as_many_as_there_can_be(
    db: dbapi.Connection, add_space: Fill, engine: str
) -> None:
    vectors = np.random.default_rng(0).standard_normal((600, 8))
    add_space("s", vectors)
    index(db, ["s"], engine)
    for left in (580, 60, 11, 3, 1, 0):  # those around item 1 go first
        near = rows(
            db, "select id from knn('s', ?, 600, null, 1)", vectors[0].astype("<f4").tobytes()
        )
        gone = [item for (item,) in near][: len(near) - left]
        db.execute(
            "delete from vectors where item_id in (select value from json_each(?))",
            (json.dumps(gone),),
        )
        db.commit()
        query = vectors[0].astype("<f4").tobytes()
        found = knn(db, query, 10, engine)
        assert len(found) == min(10, left)
        exact = rows(db, "select id, distance, rank from knn('s', ?, 10, null, 1)", query)
        assert {row[0] for row in found[:1]} == {row[0] for row in exact[:1]}
    add(db, 1, vectors[0])
    assert knn(db, query, 10, engine) == [(1, 0.0, 1)]
    assert facts(db, "s", engine=engine)["changed_since_build"] == 600


def test_what_changed_is_read_once(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch, fresh: Residents
) -> None:
    from nearsql.udfs.search import stored_vectors

    add_space("s", np.random.default_rng(0).standard_normal((300, 8)))
    index(db, ["s"], "hnsw")
    reads: list[int] = []
    read = stored_vectors.read_rows

    def counted(raw: Any, space: Any, row_ids: Any, *rest: Any) -> Any:
        reads.append(len(row_ids))
        return read(raw, space, row_ids, *rest)

    for item in range(301, 341):
        add(db, item, np.zeros(8))
    monkeypatch.setattr(stored_vectors, "read_rows", counted)
    knn(db, "[1,0,0,0,0,0,0,0]", 5, "hnsw")
    assert reads.count(40) == 1
    reads.clear()
    knn(db, "[1,0,0,0,0,0,0,0]", 5, "hnsw")
    assert 40 not in reads
    add(db, 341, np.zeros(8))
    reads.clear()
    knn(db, "[1,0,0,0,0,0,0,0]", 5, "hnsw")
    assert reads.count(1) == 1
    assert 41 not in reads


# Refusals.


def refusal(db: dbapi.Connection, sql: str, *parameters: Any) -> str:
    with pytest.raises(sqlite3.OperationalError) as caught:
        db.execute(sql, parameters).fetchall()
    return str(caught.value)


@pytest.fixture
def indexed(db: dbapi.Connection, add_space: Fill) -> dbapi.Connection:
    """Space `s` of 300 vectors, with an hnsw and an ivf index."""
    add_space("s", np.random.default_rng(0).standard_normal((300, 16)))
    for engine in ("hnsw", "ivf"):
        index(db, ["s"], engine)
    return db


def test_arguments_that_make_no_sense(indexed: dbapi.Connection) -> None:
    for function in ("knn('s', 1, 5)", "knn_batch('s', '[1]', 5)", "search_plan('s')"):
        ask = f"select * from {function} where "
        assert "engine must be one of exact, hnsw, ivf, vec0, not 'faiss'" in refusal(
            indexed, ask + "engine = 'faiss'"
        )
        assert "exact = 1 and engine = 'hnsw' exclude each other" in refusal(
            indexed, ask + "exact = 1 and engine = 'hnsw'"
        )
        assert (
            "space 's' has no vec0 index: build it with `nearsql index FILE s --engine vec0`"
            in refusal(indexed, ask + "engine = 'vec0'")
        )
        assert "exact must be 0 or 1" in refusal(indexed, ask + "exact = 2")
    assert "there is no space 't'" in refusal(indexed, "select * from search_plan('t')")
    assert "k must be a whole number" in refusal(indexed, "select * from search_plan('s', 0)")


def test_too_little_recall_is_refused(indexed: dbapi.Connection) -> None:
    indexed.execute(
        "update vector_indexes set min_recall = 0.95,"
        ' recall_json = \'{"1": 0.99, "10": 0.905, "100": 0.96}\' where engine = \'ivf\''
    )
    message = refusal(indexed, "select * from knn('s', 1, 5)")
    assert "the ivf index of space 's' finds 90.5% of the nearest 10 neighbours" in message
    assert "less than the 95.0% that it must: ask with exact = 1" in message
    plan = facts(indexed, "s", 5)
    assert plan["engine"] is None
    assert plan["reason"] in message
    assert refusal(indexed, "select * from knn_batch('s', '[1]', 10)").endswith(plan["reason"])
    # For other k, other engines, and exactly, there is an answer.
    for k, engine, exact in ((1, None, 0), (11, None, 0), (10, "hnsw", 0), (10, None, 1)):
        sql = "select * from knn('s', 1, ?, null, ?, ?)"
        assert len(rows(indexed, sql, k, exact, engine)) == k


def test_a_log_that_does_not_tell_is_refused(indexed: dbapi.Connection) -> None:
    add(indexed, 301, np.ones(16))
    indexed.execute("delete from vector_changes where generation = 301")
    message = refusal(indexed, "select * from knn('s', 1, 5)")
    assert "the log of changes does not reach back to when it was built" in message
    assert "ask with exact = 1" in message
    plan = facts(indexed, "s")
    assert plan["engine"] is None
    assert plan["reason"] in message
    assert len(rows(indexed, "select * from knn('s', 1, 5, null, 1)")) == 5


@pytest.mark.parametrize(
    ("damage", "engine", "why"),
    [
        (
            (
                "update vector_index_chunks set data = cast(substr(data, 1, length(data) - 1) || x'07'"
                " as blob) where part = 0"
            ),
            "hnsw",
            "its bytes have changed since they were written",
        ),
        ("delete from vector_index_chunks where part = 0", "ivf", "its bytes have changed"),
        ("delete from vector_index_chunks where part = 1", "hnsw", "ids are missing"),
        ("update vector_index_chunks set data = x'' where part = 2", "ivf", "ids are missing"),
        ("delete from vector_index_chunks where part = 4", "ivf", "is shorter than it was"),
        (
            "update vector_index_chunks set data = zeroblob(length(data) + 8) where part > 2",
            "ivf",
            "is longer than it was",
        ),
        (
            (
                "update vector_index_chunks set data = cast(x'ffffffffffffff7f' ||"
                " substr(data, 9) as blob) where part > 2"
            ),
            "ivf",
            "holds a place that is not there",
        ),
        (
            "update vector_index_chunks set data = zeroblob(length(data)) where part > 2",
            "ivf",
            "an item is in it twice",
        ),
        (
            "update vector_index_chunks set data = zeroblob(length(data)) where part = 2",
            "hnsw",
            "a row that it names is not there",
        ),
        ("update vector_indexes set parameters_json = '{}'", "hnsw", "its parameters are not"),
        ("update vector_indexes set parameters_json = '7'", "hnsw", "its parameters are not"),
        ("update vector_indexes set recall_json = '{}'", "hnsw", "its parameters are not"),
        (
            "update vector_indexes set recall_json = '{\"1\": null}'",
            "ivf",
            "its parameters are not",
        ),
        (
            (
                "update vector_indexes set parameters_json = json_set(parameters_json,"
                " '$.search.\"10\".effort', -1)"
            ),
            "hnsw",
            "its parameters are not",
        ),
        ("update vector_indexes set n = 299", "ivf", "ids are missing"),
        ("update vector_indexes set n = 0", "ivf", "its parameters are not"),
    ],
)
def test_a_damaged_index_is_refused(
    indexed: dbapi.Connection, fresh: Residents, damage: str, engine: str, why: str
) -> None:
    indexed.execute(damage)
    indexed.commit()
    for sql in (
        "select * from knn('s', '[1,0,0,0,0,0,0,0,0,0,0,0,0,0,0,0]', 10) where engine = ?",
        "select * from knn_batch('s', '[3, 5]', 10) where engine = ?",
    ):
        message = refusal(indexed, sql, engine)
        assert f"the {engine} index of space 's' is damaged (" in message
        assert why in message
        assert f"nearsql index FILE s --engine {engine}" in message
    assert len(rows(indexed, "select * from knn('s', 1, 5, null, 1)")) == 5


def test_an_index_that_is_not_ready_serves_nobody(indexed: dbapi.Connection) -> None:
    indexed.execute("update vector_indexes set is_ready = 0 where engine = 'ivf'")
    assert facts(indexed, "s")["engine"] == "hnsw"
    indexed.execute("update vector_indexes set is_ready = 0")
    plan = facts(indexed, "s")
    assert (plan["engine"], plan["reason"]) == ("exact", "the space has no index")
    assert plan["bytes_needed"] == 300 * (4 * 16 + 16)


# Memory, threads, processes.


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
