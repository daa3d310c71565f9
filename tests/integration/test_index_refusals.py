"""knn by an index that must not answer: arguments, recall, the log, damage."""

from collections.abc import Callable

import numpy as np
import pytest
from searched_indexes import add, facts, refusal, rows

from nearsql.udfs import dbapi
from nearsql.udfs.search.memory import Residents

Fill = Callable[..., int]


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
