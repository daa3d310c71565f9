"""Rows: real sqlite3.Row, descriptions, converters, text factories, text that is not UTF-8."""

import datetime
import sqlite3

import pytest

from nearsql.udfs import dbapi

NOT_UTF8 = "cast(x'61ff62' as text)"


@pytest.fixture
def db():
    connection = dbapi.connect(":memory:")
    yield connection
    connection.close()


def names(cursor):
    return [column[0] for column in cursor.description]


def test_rows_are_tuples(db):
    assert db.execute("select 1, 2.5, 'three', x'04', null").fetchall() == [
        (1, 2.5, "three", b"\x04", None)
    ]


def test_row_factory_gives_real_rows(db):
    db.row_factory = dbapi.Row
    row = db.execute("select 1 as a, 2 as B").fetchone()
    assert type(row) is sqlite3.Row
    assert (row["a"], row["b"], row[0], row.keys(), tuple(row)) == (1, 2, 1, ["a", "B"], (1, 2))
    assert row == db.execute("select 1 as a, 2 as B").fetchall()[0]


@pytest.mark.parametrize("name", ["", 'with "quotes"', "a b", "count(*)", "ü", "x'y", "a;b"])
def test_row_has_any_column_name(db, name):
    db.row_factory = dbapi.Row
    quoted = name.replace('"', '""')
    row = db.execute(f'select 1 as "{quoted}"').fetchone()
    assert row.keys() == [name]


def test_subclass_of_row(db):
    class Mine(dbapi.Row):
        pass

    db.row_factory = Mine
    assert [type(row) for row in db.execute("select 1 union select 2")] == [Mine, Mine]


def test_row_factory_may_be_any_function(db):
    db.row_factory = lambda cursor, row: dict(zip(names(cursor), row, strict=True))
    assert db.execute("select 1 as a union select 2").fetchall() == [{"a": 1}, {"a": 2}]


def test_row_factory_of_a_cursor_can_change_between_rows(db):
    cursor = db.execute("select 1 as a union select 2 union select 3")
    assert cursor.fetchone() == (1,)
    cursor.row_factory = dbapi.Row
    assert cursor.fetchone()["a"] == 2
    cursor.row_factory = None
    assert cursor.fetchall() == [(3,)]


@pytest.mark.parametrize(
    "sql",
    [
        "select a, b as c from t",
        "with q as (select a, b as c from t) select * from q",
        "-- a comment\n /* and one more */ select a, b as c from t",
        "insert into t select 1, 2 where 0 returning a, b as c",
        "explain query plan select a from t where 0",
        "pragma foreign_key_list(t)",
    ],
)
def test_description_without_rows(db, sql):
    db.execute("create table t(a, b)")
    expected = sqlite3.connect(":memory:")
    expected.execute("create table t(a, b)")
    cursor = db.execute(sql)
    assert cursor.description == expected.execute(sql).description
    assert cursor.description is not None


@pytest.mark.parametrize("sql", ["create table u(a)", "insert into t values (1, 2)", "", "-- c"])
def test_no_description_without_columns(db, sql):
    db.execute("create table t(a, b)")
    assert db.execute(sql).description is None


def test_description_after_another_connection_changed_the_schema(tmp_path):
    path = tmp_path / "a.db"
    ours = dbapi.connect(path)
    ours.execute("create table t(a)")
    assert names(ours.execute("select * from t")) == ["a"]
    other = dbapi.connect(path)
    other.execute("alter table t add column b")
    assert names(ours.execute("select * from t")) == ["a", "b"]
    other.execute("alter table t add column c")
    ours.execute("insert into t(a, b, c) values (1, 2, 3)")
    assert names(ours.execute("select * from t")) == ["a", "b", "c"]
    ours.commit()
    other.execute("alter table t rename column c to d")
    assert names(ours.execute("select * from t")) == ["a", "b", "d"]


def test_converters_by_declared_type():
    db = dbapi.connect(":memory:", detect_types=dbapi.PARSE_DECLTYPES)
    db.execute("create table t(d date, n integer, b bool(1))")
    dbapi.register_converter("bool", lambda value: value != b"0")
    try:
        db.execute("insert into t values (?, 5, 0)", (datetime.date(2024, 5, 6),))
        assert db.execute("select * from t").fetchall() == [(datetime.date(2024, 5, 6), 5, False)]
        assert db.execute("select max(n), d as n from t").fetchone() == (
            5,
            datetime.date(2024, 5, 6),
        )
        db.execute("update t set d = null")
        assert db.execute("select d from t").fetchone() == (None,)
    finally:
        del dbapi.converters["BOOL"]


def test_converters_by_column_name():
    db = dbapi.connect(":memory:", detect_types=dbapi.PARSE_COLNAMES)
    cursor = db.execute('select \'2024-05-06\' as "day [date]", 1 as "n [unknown]"')
    assert names(cursor) == ["day", "n"]
    assert cursor.fetchone() == (datetime.date(2024, 5, 6), 1)


@pytest.mark.parametrize("value", [1, -2.5, 1e100, 0.1, "text", b"blob", b"", "", None])
def test_converters_get_the_bytes_the_standard_library_gives(value, monkeypatch):
    monkeypatch.setitem(dbapi.converters, "RAW", lambda given: ("raw", given))
    seen = []
    for module in (sqlite3, dbapi):
        db = module.connect(":memory:", detect_types=module.PARSE_COLNAMES)
        seen.append(db.execute('select ? as "x [raw]"', (value,)).fetchall())
    assert seen[0] == seen[1]


def test_error_in_a_converter_is_its_own_and_keeps_the_row(monkeypatch):
    monkeypatch.setitem(dbapi.converters, "BAD", lambda given: int(given))
    db = dbapi.connect(":memory:", detect_types=dbapi.PARSE_COLNAMES)
    cursor = db.execute("select 'x' as \"a [bad]\"")
    for _ in range(2):
        with pytest.raises(ValueError, match="invalid literal"):
            cursor.fetchone()


@pytest.mark.parametrize(
    "factory", [bytes, bytearray, lambda b: b.decode("latin-1"), lambda b: b[:1]]
)
def test_text_factory(factory):
    rows = []
    for module in (sqlite3, dbapi):
        db = module.connect(":memory:")
        db.text_factory = factory
        sql = f"select 'aé', 1, null, x'00', {NOT_UTF8} union all select 'b', 2, 3.5, 'c', 'd'"
        rows.append(db.execute(sql).fetchall())
    assert rows[0] == rows[1]


def test_text_factory_with_rows(db):
    db.text_factory = lambda given: given.decode("utf-8", "replace")
    db.row_factory = dbapi.Row
    rows = db.execute(
        f"select 'x' as a union all select {NOT_UTF8} union all select 'y'"
    ).fetchall()
    assert [row["a"] for row in rows] == ["x", "a\ufffdb", "y"]


def test_text_that_is_not_utf8_is_an_error_that_shows_it(db):
    cursor = db.execute(f"select 1, 'good' as a union all select 2, {NOT_UTF8}")
    assert cursor.fetchone() == (1, "good")
    with pytest.raises(dbapi.OperationalError) as caught:
        cursor.fetchone()
    assert str(caught.value) == "Could not decode to UTF-8 column 'a' with text 'a\ufffdb'"
    with pytest.raises(dbapi.OperationalError):
        db.execute(f"select {NOT_UTF8}").fetchall()


def test_text_that_is_not_utf8_with_parameters_and_many_rows(db):
    db.text_factory = bytes
    db.execute("create table t(id integer primary key, a text)")
    db.executemany(
        "insert into t values (?, cast(? as text))", [(i, b"\xff%d" % i) for i in range(50)]
    )
    cursor = db.execute("select id, a from t where id >= ? order by id;", (10,))
    expected = [(i, b"\xff%d" % i) for i in range(10, 50)]
    assert [cursor.fetchone(), *cursor.fetchmany(3), *cursor.fetchall()] == expected
    cursor = db.execute("select id, a from t where id >= :least order by id -- all", {"least": 10})
    assert list(cursor) == expected
    cursor = db.execute("select id, a from t where id >= 10 order by id; -- all")
    assert list(cursor) == expected
    with pytest.raises(dbapi.OperationalError, match="no such function"):
        db.execute("select nosuch(a) from t")


def test_text_that_is_not_utf8_outside_a_query_is_an_error_not_a_wrong_value(db):
    db.text_factory = bytes
    db.execute("create table t(a)")
    cursor = db.execute(f"insert into t values ({NOT_UTF8}) returning a")
    with pytest.raises(dbapi.OperationalError, match="Could not decode to UTF-8"):
        cursor.fetchone()
    assert db.execute("select count(*) from t").fetchone() == (1,)


def test_fetchmany(db):
    sql = "with recursive n(i) as (select 1 union all select i + 1 from n where i < 7) select i from n"
    cursor = db.execute(sql)
    assert cursor.fetchmany() == [(1,)]
    cursor.arraysize = 2
    assert cursor.fetchmany() == [(2,), (3,)]
    assert cursor.fetchmany(3) == [(4,), (5,), (6,)]
    assert cursor.fetchmany(10) == [(7,)]
    assert cursor.fetchmany(10) == []
    assert db.execute(sql).fetchmany(0) == sqlite3.connect(":memory:").execute(sql).fetchmany(0)


def test_fetch_without_a_statement(db):
    cursor = db.cursor()
    assert (cursor.fetchone(), cursor.fetchmany(), cursor.fetchall(), list(cursor)) == (
        None,
        [],
        [],
        [],
    )
