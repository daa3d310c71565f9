"""Running statements: transactions, counts, scripts, parameters, several statements at once."""

import collections
import datetime
import gc
import sqlite3
import weakref

import pytest

from nearsql.udfs import dbapi


@pytest.fixture
def db():
    connection = dbapi.connect(":memory:")
    connection.execute("create table t(id integer primary key, a)")
    yield connection
    connection.close()


# --- transactions ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql",
    [
        "insert into t(a) values (1)",
        "  \n-- why\n/* how */ INSERT into t(a) values (1)",
        "update t set a = 1",
        "delete from t",
        "replace into t(a) values (1)",
    ],
)
def test_a_statement_that_changes_rows_begins_a_transaction(db, sql):
    assert not db.in_transaction
    db.execute(sql)
    assert db.in_transaction
    db.rollback()
    assert db.execute("select count(*) from t").fetchone() == (0,)


@pytest.mark.parametrize("sql", ["select 1", "create table u(a)", "pragma user_version = 3"])
def test_other_statements_begin_none(db, sql):
    db.execute(sql)
    assert not db.in_transaction


def test_sql_that_is_wrong_begins_none(db):
    with pytest.raises(dbapi.OperationalError, match="no such table"):
        db.execute("insert into nowhere values (1)")
    assert not db.in_transaction


def test_isolation_level_none_begins_none():
    db = dbapi.connect(":memory:", isolation_level=None)
    db.execute("create table t(a)")
    db.execute("insert into t values (1)")
    assert not db.in_transaction
    db.rollback()
    assert db.execute("select * from t").fetchall() == [(1,)]


@pytest.mark.parametrize("level", ["", "DEFERRED", "immediate", "EXCLUSIVE"])
def test_isolation_level_is_how_a_transaction_begins(db, level):
    said = []
    db.isolation_level = level
    db.set_trace_callback(said.append)
    db.execute("insert into t(a) values (?)", ("x",))
    db.commit()
    assert said == [f"BEGIN {level}", "insert into t(a) values ('x')", "COMMIT"]


def test_isolation_level_is_checked(db):
    with pytest.raises(ValueError, match="isolation_level string must be"):
        db.isolation_level = "SERIALIZABLE"
    with pytest.raises(TypeError, match="must be a string or None"):
        db.isolation_level = 1
    assert db.isolation_level == ""
    db.execute("insert into t(a) values (1)")
    db.isolation_level = None
    assert not db.in_transaction


def test_with_commits_or_rolls_back(db):
    with db:
        db.execute("insert into t(a) values (1)")
    assert not db.in_transaction
    with pytest.raises(ZeroDivisionError), db:
        db.execute("insert into t(a) values (2)")
        1 / 0  # noqa: B018
    assert not db.in_transaction
    assert db.execute("select a from t").fetchall() == [(1,)]


def test_with_rolls_back_when_the_commit_fails(db):
    db.executescript(
        "pragma foreign_keys = on;"
        "create table child(t_id references t deferrable initially deferred);"
    )
    with pytest.raises(dbapi.IntegrityError, match="FOREIGN KEY"), db:
        db.execute("insert into child values (7)")
    assert not db.in_transaction


def test_autocommit_false_is_always_in_a_transaction(tmp_path):
    db = dbapi.connect(tmp_path / "a.db", autocommit=False)
    assert db.in_transaction
    db.execute("create table t(a)")
    db.commit()
    assert db.in_transaction
    db.execute("insert into t values (1)")
    db.rollback()
    assert db.execute("select count(*) from t").fetchone() == (0,)
    db.autocommit = True
    assert not db.in_transaction
    db.execute("begin")
    db.commit()
    assert db.in_transaction, "commit does nothing when autocommit is on"
    db.rollback()
    db.execute("commit")
    db.autocommit = dbapi.LEGACY_TRANSACTION_CONTROL
    db.execute("insert into t values (1)")
    assert db.in_transaction
    db.autocommit = False
    said = []
    db.set_trace_callback(said.append)
    db.close()
    assert said == ["ROLLBACK"]


# --- counts ---------------------------------------------------------------------------------------


def test_rowcount(db):
    cursor = db.cursor()
    assert cursor.rowcount == -1
    assert cursor.execute("insert into t(a) values (1), (2), (3)").rowcount == 3
    assert cursor.execute("update t set a = 0 where id > 1").rowcount == 2
    assert cursor.execute("select * from t").rowcount == -1
    assert cursor.execute("delete from t").rowcount == 3
    assert cursor.executemany("insert into t(a) values (?)", [(1,), (2,)]).rowcount == 2
    assert cursor.executemany("insert into t(a) values (?)", []).rowcount == 0


def test_rowcount_counts_no_triggers(db):
    db.execute("create table log(a)")
    db.execute("create trigger logs after insert on t begin insert into log values (new.a); end")
    cursor = db.executemany("insert into t(a) values (?)", ((i,) for i in range(5)))
    assert cursor.rowcount == 5
    assert db.execute("select count(*) from log").fetchone() == (5,)


def test_rowcount_of_returning_is_right_after_the_last_row(db):
    cursor = db.execute("insert into t(a) values ('x'), ('y') returning id, a")
    assert cursor.rowcount == 0
    assert cursor.fetchone() == (1, "x")
    assert cursor.fetchone() == (2, "y")
    assert cursor.rowcount == 2
    assert db.execute("update t set a = 'z' returning a").fetchall() == [("z",), ("z",)]
    cursor = db.execute("insert into t(a) select 1 where 0 returning id")
    assert (cursor.fetchall(), cursor.rowcount) == ([], 0)


def test_returning_of_executemany_changes_every_row(db):
    cursor = db.executemany("insert into t(a) values (?) returning id", [(1,), (2,), (3,)])
    assert (cursor.fetchall(), cursor.rowcount) == ([], 3)
    assert db.execute("select count(*) from t").fetchone() == (3,)


def test_lastrowid(db):
    cursor = db.cursor()
    assert cursor.lastrowid is None
    assert cursor.execute("insert into t values (7, 'x')").lastrowid == 7
    assert cursor.execute("select 1").lastrowid == 7
    cursor.executemany("insert into t(a) values (?)", [(1,), (2,)])
    assert cursor.lastrowid == 7


def test_total_changes(db):
    before = db.total_changes
    db.execute("insert into t(a) values (1), (2)")
    assert db.total_changes == before + 2


# --- parameters -----------------------------------------------------------------------------------


class Named(dict):
    def __missing__(self, name):
        return f"no {name}"


class Listed:
    def __len__(self):
        return 2

    def __getitem__(self, i):
        return ("x", "y")[i]


@pytest.mark.parametrize(
    ("sql", "parameters", "expected"),
    [
        ("select ?, ?", (1, "x"), (1, "x")),
        ("select ?, ?", [None, 2.5], (None, 2.5)),
        ("select ?2, ?1", ("x", "y"), ("y", "x")),
        ("select :a, @b, $c", {"a": 1, "b": 2, "c": 3, "unused": object()}, (1, 2, 3)),
        ("select :a, :b", (1, 2), (1, 2)),
        ("select :a, :b", Named(a=1), (1, "no b")),
        ("select :a", collections.ChainMap({"a": 1}), (1,)),
        ("select ?, ?", Listed(), ("x", "y")),
        ("select ?", (bytearray(b"x"),), (b"x",)),
        ("select ?", (memoryview(b"xyz")[1:],), (b"yz",)),
        ("select ?", (True,), (1,)),
        ("select ?", (datetime.date(2024, 5, 6),), ("2024-05-06",)),
        ("select :d", {"d": datetime.date(2024, 5, 6)}, ("2024-05-06",)),
        ("select ?", ("null \0 character",), ("null \0 character",)),
    ],
)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_parameters(db, sql, parameters, expected):
    assert db.execute(sql, parameters).fetchone() == expected


class Unsized(Listed):
    def __len__(self):
        raise ZeroDivisionError


@pytest.mark.parametrize(
    ("sql", "parameters"),
    [
        ("select ?", ()),
        ("select ?", (1, 2)),
        ("select 1", (1,)),
        ("select ?", {"a": 1}),
        ("select :a", {}),
        ("select :a", {"a": object()}),
        ("select ?", (object(),)),
        ("select ?", {1, 2}),
        ("select ?", 5),
        ("select ?", (2**63,)),
        ("select :a", {"a": -(2**63) - 1}),
        ("select ?", ("\ud8ff",)),
        ("select ?", Unsized()),
        ("select '\ud8ff'", ()),
        ("select 1; select 2", ()),
        ("select 1\0", ()),
        ("selec", ()),
        ("select * from nowhere", ()),
        (5, ()),
    ],
)
def test_what_is_wrong_fails_as_in_the_standard_library(db, sql, parameters):
    failures = []
    for connection in (sqlite3.connect(":memory:"), db):
        with pytest.raises(Exception) as caught:  # noqa: PT011  which one is what is compared
            connection.execute(sql, parameters)
        failures.append((caught.type, str(caught.value)))
    standard, ours = failures
    assert ours[0] is standard[0]
    # 3.11 numbers the parameters of a dict, later versions name them.
    if "Error binding parameter" not in ours[1]:
        assert ours[1] == standard[1]


def test_adapters_and_conform(db):
    class Point:
        def __init__(self, x, y):
            self.x, self.y = x, y

        def __conform__(self, protocol):
            if protocol is dbapi.PrepareProtocol:
                return f"{self.x};{self.y}"

    assert db.execute("select ?", (Point(1, 2),)).fetchone() == ("1;2",)


def test_adapter_of_a_plain_type(db):
    dbapi.register_adapter(int, str)
    try:
        assert db.execute("select ?, typeof(?)", (1, 1)).fetchone() == ("1", "text")
    finally:
        del dbapi.adapters[(int, dbapi.PrepareProtocol)]
    assert db.execute("select ?", (1,)).fetchone() == (1,)


# --- several statements ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    "sql", ["select 1;", "select 1 -- and a comment", "select ';' ; /* over */", "select 1\n;\n"]
)
def test_one_statement_may_end_in_anything_blank(db, sql):
    assert len(db.execute(sql).fetchall()) == 1


def test_two_statements_are_refused_before_the_first_runs(db):
    with pytest.raises(dbapi.ProgrammingError, match="only execute one statement at a time"):
        db.execute("insert into t(a) values (1); delete from t")
    assert not db.in_transaction
    assert db.execute("select count(*) from t").fetchone() == (0,)


@pytest.mark.parametrize("sql", ["", "  ", "-- only a comment", "/* open"])
def test_no_statement_is_fine(db, sql):
    assert db.execute(sql).fetchall() == []


def test_trigger_is_one_statement(db):
    db.execute("create trigger x after insert on t begin delete from t; select 1; end")
    db.execute("insert into t(a) values (1)")
    assert db.execute("select count(*) from t").fetchone() == (0,)


def test_executescript(db):
    db.execute("insert into t(a) values ('pending')")
    db.executescript("create table u(b); insert into u select a from t; select * from u;")
    assert not db.in_transaction
    assert db.execute("select b from u").fetchall() == [("pending",)]
    with pytest.raises(dbapi.OperationalError, match="no such table: nowhere"):
        db.executescript("insert into u values (2); select * from nowhere; delete from u;")
    assert db.execute("select count(*) from u").fetchone() == (2,)
    with pytest.raises(ValueError, match="null character"):
        db.executescript("select 1\0")
    with pytest.raises(TypeError, match="must be str"):
        db.executescript(b"select 1")


def test_executescript_passes_over_text_that_is_not_utf8(db):
    db.executescript("select cast(x'ff' as text); select cast(x'ff' as text); create table u(a);")
    assert db.execute("select * from u").fetchall() == []


def test_executemany_refuses_what_only_reads(db):
    for sql, sets in (("select ?", [(1,)]), ("select ?", []), ("pragma table_info(t)", [()])):
        with pytest.raises(dbapi.ProgrammingError, match="can only execute DML"):
            db.executemany(sql, sets)


def test_executemany_takes_a_generator_and_its_errors(db):
    def sets():
        yield (1,)
        yield {"a": 2}
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        db.executemany("insert into t(a) values (:a)", sets())
    assert db.execute("select a from t").fetchall() == [(1,), (2,)]
    with pytest.raises(dbapi.ProgrammingError, match="supply a value for binding parameter :a"):
        db.executemany("insert into t(a) values (:a)", [{"b": 1}])


def test_executemany_with_a_common_table_expression(db):
    db.executemany("with x(y) as (select ?) insert into t(a) select y from x", [(1,), (2,)])
    assert db.execute("select a from t").fetchall() == [(1,), (2,)]


# --- cursors --------------------------------------------------------------------------------------


def test_a_cursor_runs_one_statement_after_another(db):
    db.executemany("insert into t(a) values (?)", [(i,) for i in range(5)])
    cursor = db.cursor()
    for sql in ("select id from t order by id", "select id from t order by id -- again"):
        assert cursor.execute(sql).fetchone() == (1,)
    assert cursor.execute("select 1; -- end").fetchone() == (1,)
    assert cursor.execute("select 2").fetchall() == [(2,)]


def test_a_cursor_cannot_be_used_inside_its_own_statement(db):
    cursor = db.cursor()
    db.create_function("again", 0, lambda: cursor.execute("select 1").fetchone()[0])
    with pytest.raises(dbapi.OperationalError) as caught:
        cursor.execute("select again()")
    assert "Recursive use of cursors" in str(caught.value.__cause__)
    assert cursor.execute("select 1").fetchone() == (1,)


def test_closed_cursor(db):
    cursor = db.cursor()
    cursor.close()
    cursor.close()
    with pytest.raises(dbapi.ProgrammingError, match="closed cursor"):
        cursor.execute("select 1")


def test_cursor_factory(db):
    class Mine(dbapi.Cursor):
        pass

    assert type(db.cursor(Mine)) is Mine
    assert type(db.cursor(factory=Mine)) is Mine
    with pytest.raises(TypeError, match="factory must return a cursor, not int"):
        db.cursor(lambda connection: 5)


@pytest.mark.parametrize("row_factory", [None, dbapi.Row, lambda cursor, row: (cursor, row)])
def test_a_dropped_cursor_is_gone_at_once(db, row_factory):
    db.row_factory = row_factory
    gc.disable()
    try:
        cursor = db.execute("select 1 union select 2")
        cursor.fetchone()
        gone = weakref.ref(cursor)
        del cursor
        assert gone() is None
    finally:
        gc.enable()


def test_finished_and_dropped_cursors_hold_no_lock(tmp_path):
    path = tmp_path / "a.db"
    ours, other = dbapi.connect(path), dbapi.connect(path, timeout=0)
    ours.execute("create table t(a)")
    ours.execute("insert into t values (1), (2)")
    ours.commit()
    cursor = ours.execute("select a from t")
    assert [cursor.fetchone(), cursor.fetchone()] == [(1,), (2,)]
    other.execute("drop table t")
    other.execute("create table t as select 1 as a union select 2")
    cursor = ours.execute("select a from t; -- and a comment")
    cursor.fetchone()
    with pytest.raises(dbapi.OperationalError, match="locked"):
        other.execute("drop table t")
    del cursor
    other.execute("drop table t")
