"""Errors: the standard classes, texts and codes; interrupts; Python code that SQLite calls."""

import sqlite3
import threading
import time

import apsw
import apsw.ext
import pytest

from nearsql.udfs import dbapi

ENDLESS = "with recursive n(i) as (select 1 union all select i + 1 from n) select count(*) from n"
UNIQUE = "create table t(a unique not null check (a <> 3)); insert into t values (1)"


@pytest.fixture
def db():
    connection = dbapi.connect(":memory:")
    yield connection
    connection.close()


# --- SQLite's errors ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "selec",
        "select nosuch(1)",
        "select * from nowhere",
        "insert into t values (1)",
        "insert into t values (null)",
        "insert into t values (3)",
        "create table t(a)",
        "insert into strictly values ('x')",
        "select abs(-9223372036854775808)",
        "select zeroblob(2000000000)",
        "commit",
        "attach '/nonexistent/folder/a.db' as x",
    ],
)
def test_sqlites_errors_are_those_of_the_standard_library(sql):
    failures = []
    for module in (sqlite3, dbapi):
        db = module.connect(":memory:")
        db.executescript(UNIQUE + "; create table strictly(a integer) strict")
        with pytest.raises(sqlite3.Error) as caught:
            db.execute(sql).fetchall()
        error = caught.value
        failures.append((type(error), str(error), error.sqlite_errorcode))
    assert failures[0] == failures[1]


def test_a_file_that_is_no_database(tmp_path):
    path = tmp_path / "a.db"
    path.write_bytes(b"not a database" * 100)
    with pytest.raises(dbapi.DatabaseError, match="file is not a database") as caught:
        dbapi.connect(path).execute("select * from sqlite_master")
    assert caught.value.sqlite_errorname == "SQLITE_NOTADB"


def test_the_error_below_is_the_cause(db):
    with pytest.raises(dbapi.OperationalError) as caught:
        db.execute("selec")
    assert isinstance(caught.value.__cause__, apsw.SQLError)


def test_an_error_while_stepping(db):
    cursor = db.execute("select abs(i) from (select 1 as i union all select -9223372036854775808)")
    with pytest.raises(dbapi.OperationalError, match="integer overflow"):
        cursor.fetchall()
    assert cursor.fetchall() == []


def test_too_long_sql(db):
    db.setlimit(dbapi.SQLITE_LIMIT_SQL_LENGTH, 100)
    db.execute("select 1".ljust(100))
    for run in (db.execute, db.executescript):
        with pytest.raises(dbapi.DataError, match="query string is too large"):
            run("select 1".ljust(101))


# --- interrupts -----------------------------------------------------------------------------------


def test_interrupt_from_another_thread(db):
    timer = threading.Timer(0.05, db.interrupt)
    timer.start()
    with pytest.raises(dbapi.OperationalError) as caught:
        db.execute(ENDLESS)
    timer.join()
    assert caught.value.args == ("interrupted",)
    assert db.execute("select 1").fetchone() == (1,)


@pytest.mark.parametrize("answer", [lambda: 1, lambda: 1 / 0])
def test_progress_handler_interrupts(db, answer):
    db.set_progress_handler(answer, 1000)
    with pytest.raises(dbapi.OperationalError) as caught:
        db.execute(ENDLESS)
    assert caught.value.args == ("interrupted",)
    db.set_progress_handler(None, 0)
    assert db.execute("select 1").fetchone() == (1,)


def test_progress_handler_stops_a_table_valued_function(db):
    def endless():
        while True:
            time.sleep(0.0001)
            yield {"n": 1}

    endless.columns, endless.column_access = ("n",), apsw.ext.VTColumnAccess.By_Name
    apsw.ext.make_virtual_module(db.apsw, "endless", endless)
    deadline = time.monotonic() + 0.05
    db.set_progress_handler(lambda: time.monotonic() > deadline, 10)
    with pytest.raises(dbapi.OperationalError) as caught:
        db.execute("select count(*) from endless")
    assert caught.value.args == ("interrupted",)


# --- errors of Python code ------------------------------------------------------------------------


def fails(*_):
    raise KeyError("no such space: 'clip'")


def test_errors_of_created_functions_have_the_standard_text(db):
    db.create_function("fails", -1, fails)
    with pytest.raises(dbapi.OperationalError) as caught:
        db.execute("select fails(:x)", {"x": 1})
    assert str(caught.value) == "user-defined function raised exception"
    assert isinstance(caught.value.__cause__, KeyError)


@pytest.mark.parametrize("error", [ValueError, KeyError, TypeError, OverflowError, RuntimeError])
def test_errors_of_functions_of_the_raw_connection_have_their_own_text(db, error):
    def named(*_):
        raise error("knn: no space named 'clip'")

    db.apsw.create_scalar_function("named", named)
    with pytest.raises(dbapi.OperationalError) as caught:
        db.execute("select named(:x)", {"x": 1})
    assert "knn: no space named 'clip'" in str(caught.value)
    assert isinstance(caught.value.__cause__, error)
    with pytest.raises(dbapi.OperationalError, match="no space named"):
        db.execute("select 1 union all select named(?)", (5,)).fetchall()
    with pytest.raises(dbapi.OperationalError, match="no space named"):
        db.executescript("select 1; select named(5)")


def test_errors_of_table_valued_functions_have_their_own_text(db):
    def rows(k):
        yield {"n": 1}
        raise ValueError(f"knn: k must be at least 1, not {k}")

    rows.columns, rows.column_access = ("n",), apsw.ext.VTColumnAccess.By_Name
    apsw.ext.make_virtual_module(db.apsw, "rows", rows)
    for fetch in ("fetchall", "fetchone"):
        with pytest.raises(dbapi.OperationalError) as caught:
            getattr(db.execute("select n from rows(-1)"), fetch)()
        assert str(caught.value) == "knn: k must be at least 1, not -1"


def test_an_error_of_the_interface_itself_goes_through(db):
    def refuses():
        raise dbapi.DataError("not this")

    db.apsw.create_scalar_function("refuses", refuses)
    with pytest.raises(dbapi.DataError, match="not this"):
        db.execute("select refuses()")


def test_undecodable_argument_of_a_function_is_an_error_not_an_empty_result(db):
    db.apsw.create_scalar_function("same", lambda text: text)
    with pytest.raises(dbapi.OperationalError, match=r"same: an argument is .* not valid UTF-8"):
        db.execute("select same(cast(x'ff' as text))").fetchall()
    with pytest.raises(dbapi.OperationalError, match=r"same: an argument is .* not valid UTF-8"):
        db.execute("select same(1) union all select same(cast(x'ff' as text))").fetchall()
    with pytest.raises(dbapi.OperationalError, match=r"same: an argument is .* not valid UTF-8"):
        db.executescript("select same(cast(x'ff' as text))")


def test_keyboard_interrupt_is_not_swallowed(db):
    def stop():
        raise KeyboardInterrupt

    db.create_function("stop", 0, stop)
    with pytest.raises(KeyboardInterrupt):
        db.execute("select stop()")
    assert db.execute("select 1").fetchone() == (1,)
