"""knn by an index: as exact as its candidates, never out of date, and refused where it would be wrong."""

import json
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from searched_indexes import ENGINES, METRICS, add, facts, knn, look_everywhere, rows
from sklearn.datasets import load_digits

from nearsql.pipeline.index.build import index
from nearsql.udfs import connection, dbapi
from nearsql.udfs.search.memory import Residents

Fill = Callable[..., int]


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
