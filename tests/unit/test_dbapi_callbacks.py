"""Functions, aggregates, window functions, collations, and the hooks."""

import sqlite3
import sys

import pytest

from nearsql.udfs import dbapi


@pytest.fixture
def db():
    connection = dbapi.connect(":memory:")
    connection.execute("create table t(i)")
    connection.executemany("insert into t values (?)", [(3,), (1,), (2,)])
    connection.commit()
    yield connection
    connection.close()


class Total:
    def __init__(self):
        self.total = 0

    def step(self, value):
        self.total += value

    def inverse(self, value):
        self.total -= value

    def value(self):
        return self.total

    finalize = value


def test_function(db):
    db.create_function("plus", 2, lambda a, b: a + b)
    db.create_function("count_of", -1, lambda *given: len(given), deterministic=True)
    assert db.execute("select plus(1, 2), count_of(), count_of(1, 2)").fetchone() == (3, 0, 2)
    db.create_function("plus", 2, None)
    with pytest.raises(dbapi.OperationalError, match="no such function"):
        db.execute("select plus(1, 2)")
    with pytest.raises(dbapi.OperationalError, match="Error creating function"):
        db.create_function("plus", -100, None)


@pytest.mark.parametrize(
    "value", [None, 1, -(2**63), 2.5, "é", "a\0b", b"x", bytearray(b"x"), memoryview(b"x"), True]
)
def test_values_functions_take_and_give(value):
    answers = []
    for module in (sqlite3, dbapi):
        db = module.connect(":memory:")
        seen = []
        db.create_function(
            "same", 1, lambda given, seen=seen, value=value: seen.append(given) or value
        )
        answers.append((db.execute("select same(?)", (value,)).fetchone(), seen))
    assert answers[0] == answers[1]


@pytest.mark.parametrize(
    ("value", "error", "text"),
    [
        (2**63, dbapi.DataError, "string or blob too big"),
        ("\ud8ff", dbapi.OperationalError, "user-defined function raised exception"),
        (object(), dbapi.OperationalError, "user-defined function raised exception"),
        (memoryview(b"abc")[::2], dbapi.OperationalError, "user-defined function raised exception"),
    ],
)
def test_values_functions_cannot_give(db, value, error, text):
    db.create_function("wrong", 0, lambda: value)
    with pytest.raises(error, match=text):
        db.execute("select wrong()")


def test_aggregate(db):
    db.create_aggregate("total_of", 1, Total)
    assert db.execute("select total_of(i) from t").fetchone() == (6,)
    assert db.execute("select total_of(i) from t where 0").fetchone() == (None,)
    assert db.execute("select i % 2, total_of(i) from t group by 1").fetchall() == [(0, 2), (1, 4)]


def test_window_function(db):
    db.create_window_function("total_of", 1, Total)
    sql = "select total_of(i) over (order by i rows between 1 preceding and current row) from t"
    assert db.execute(sql).fetchall() == [(1,), (3,), (5,)]


@pytest.mark.parametrize("method", ["__init__", "step", "finalize"])
def test_error_in_an_aggregate(db, method, monkeypatch):
    def fails(self, *_):
        raise ZeroDivisionError("mine")

    kind = type("Kind", (Total,), {method: fails})
    db.create_aggregate("kind", 1, kind)
    with pytest.raises(dbapi.OperationalError) as caught:
        db.execute("select kind(i) from t")
    assert str(caught.value) == f"user-defined aggregate's '{method}' method raised error"
    assert isinstance(caught.value.__cause__, ZeroDivisionError)


def test_missing_method_of_an_aggregate(db):
    db.create_aggregate("kind", 1, type("Kind", (), {"step": lambda self, value: None}))
    with pytest.raises(dbapi.OperationalError, match="'finalize' method not defined"):
        db.execute("select kind(i) from t")


def test_collation(db):
    db.create_collation("backwards", lambda a, b: (a < b) - (a > b))
    sql = "select column1 as x from (values ('a'), ('c'), ('b')) order by x collate backwards"
    assert db.execute(sql).fetchall() == [("c",), ("b",), ("a",)]
    db.create_collation("backwards", None)
    with pytest.raises(dbapi.OperationalError, match="no such collation"):
        db.execute(sql)
    with pytest.raises(TypeError, match="must be callable"):
        db.create_collation("wrong", 5)


def test_authorizer(db):
    asked = []

    def only_reads(action, *names):
        asked.append((action, *names))
        allowed = action in (dbapi.SQLITE_SELECT, dbapi.SQLITE_READ)
        return dbapi.SQLITE_OK if allowed else dbapi.SQLITE_DENY

    db.set_authorizer(only_reads)
    assert db.execute("select i from t where i = 3").fetchone() == (3,)
    assert (dbapi.SQLITE_READ, "t", "i", "main", None) in asked
    with pytest.raises(dbapi.DatabaseError, match="not authorized"):
        db.execute("delete from t")
    db.set_authorizer(lambda *access: "no number")
    with pytest.raises(dbapi.DatabaseError, match="not authorized"):
        db.execute("select i from t")
    db.set_authorizer(None)
    db.execute("delete from t")


def test_authorizer_is_asked_once_a_statement(db):
    counts = []
    for module in (sqlite3, dbapi):
        connection = module.connect(":memory:")
        connection.execute("create table t(i)")
        asked = []
        connection.set_authorizer(lambda *access, asked=asked: asked.append(access) or 0)
        for sql in ("select * from t", "insert into t values (1)", "select * from t where i = 1"):
            connection.execute(sql).fetchall()
        counts.append(asked)
    assert counts[0] == counts[1]


def test_trace_callback_sees_parameters(db):
    said = []
    db.set_trace_callback(said.append)
    db.execute("select ?, ?", (1, "it's")).fetchall()
    db.executemany("update t set i = ?", [(1,), (2,)])
    db.execute("select i from t where 0")
    pending = db.execute("select i from t where i > ?", (0,))
    db.apsw.execute("select 7")
    pending.fetchone()
    db.set_trace_callback(None)
    db.execute("select 2")
    assert said == [
        "select 1, 'it''s'",
        "BEGIN ",
        "update t set i = 1",
        "update t set i = 2",
        "select i from t where 0",
        "select i from t where i > 0",
        "select 7",
    ]


def test_callback_tracebacks_are_reported_when_asked_for(db, monkeypatch):
    reported = []
    monkeypatch.setattr(sys, "unraisablehook", reported.append)

    def fails():
        raise ZeroDivisionError("mine")

    db.create_function("fails", 0, fails)
    for enabled in (True, False):
        dbapi.enable_callback_tracebacks(enabled)
        with pytest.raises(dbapi.OperationalError):
            db.execute("select fails()")
    assert [(report.exc_type, report.object) for report in reported] == [(ZeroDivisionError, fails)]
