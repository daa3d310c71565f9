"""Random programs do the same on the standard library and on the face."""

import sqlite3
from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from nearsql.udfs import dbapi

SCHEMA = """
create table t(id integer primary key, a, b text unique, c integer check (c < 100));
create table log(what);
create trigger logs after update on t begin insert into log values (new.id); end;
"""

values = st.one_of(
    st.none(),
    st.integers(-3, 120),
    st.floats(allow_nan=False),
    st.text("aé\0'\U0001f600", max_size=3),
    st.binary(max_size=3),
    st.booleans(),
)
impossible = st.sampled_from([2**63, object(), "\ud8ff"])
sql = st.sampled_from(
    [
        "insert into t(a, b) values (?, ?)",
        "insert into t(id, a, b, c) values (?, ?, 'x', 5)",
        "insert into t(b, c) values (?, ?) returning id, c",
        "insert or ignore into t(b, c) values (?, ?) returning id",
        "replace into t(id, b) values (?, ?)",
        "update t set a = ?, c = ? where id % 2",
        "update t set c = c + ? where a is not ? returning id, c, typeof(a)",
        "delete from t where a = ? or id = ?",
        "delete from t",
        "select * from t order by id",
        "select id, a as x, b || ? from t where c > ? order by id desc",
        "select max(id), count(*), total(c) from t",
        "select ?, typeof(?)",
        "with q(x) as (select ? union all select ?) select x, typeof(x) from q",
        "with q(x, y) as (select ?, ?) insert into t(a, b) select x, y from q",
        "values (?, ?), (1, 2)",
        "pragma table_info(t)",
        "create table if not exists u(a, b)",
        "create table u(a, b)",
        "insert into u values (?, ?)",
        "drop table if exists u",
        "alter table t add column d",
        "begin",
        "begin immediate",
        "commit",
        "rollback",
        "savepoint s",
        "release s",
        "rollback to s",
        "select * from nowhere",
        "insert into nowhere values (?, ?)",
        "insert into t(a) values (?); delete from t",
        "selec ?, ?",
        "",
        " -- nothing",
        "select 1 -- end",
    ]
)
wrong = st.one_of(st.tuples(values, impossible), st.tuples(values), st.just(()))


def parameters(text: str) -> Any:
    """Parameters for a statement, right or wrong; but only one mistake at a time.

    Which of two is reported is not compared: it depends on what a statement cache remembers of a
    table that is gone.
    """
    right = st.tuples(*[values] * text.count("?"))
    is_sure = "into t" in text or "from t" in text or "update t" in text
    return st.one_of(right, right, wrong) if "?" in text and is_sure else right


cursors = st.integers(0, 2)
execute = sql.flatmap(
    lambda text: st.tuples(st.just("execute"), cursors, st.just(text), parameters(text))
)
# What else differs on purpose is in docs/compatibility.md, or is a mistake of the standard library:
# after refusing a query in executemany it gives out the rows of another cursor with the same SQL.
changes = sql.filter(
    lambda text: (
        text.startswith(("insert", "replace", "update", "delete")) and "returning" not in text
    )
)
executemany = changes.flatmap(
    lambda text: st.tuples(
        st.just("executemany"), cursors, st.just(text), st.lists(parameters(text), max_size=3)
    )
)
scripts = sql.filter(lambda text: "?" not in text)
steps = st.one_of(
    execute,
    execute,
    executemany,
    st.tuples(st.just("executescript"), cursors, scripts),
    st.tuples(st.just("fetchone"), cursors),
    st.tuples(st.just("fetchmany"), cursors, st.integers(1, 3)),
    st.tuples(st.just("fetchall"), cursors),
    st.tuples(st.just("close"), cursors),
    st.tuples(st.just("commit")),
    st.tuples(st.just("rollback")),
    st.tuples(st.just("isolation_level"), st.sampled_from([None, "", "IMMEDIATE"])),
    st.tuples(st.just("row_factory"), st.sampled_from([None, sqlite3.Row])),
    st.tuples(st.just("text_factory"), st.sampled_from([str, bytes])),
)


class Program:
    """A connection with three cursors, on one of the two modules."""

    def __init__(self, module: Any) -> None:
        self.db = module.connect(":memory:")
        self.db.executescript(SCHEMA)
        self.cursors = [self.db.cursor() for _ in range(3)]

    def do(self, action: str, *arguments: Any) -> Any:
        """What a step gives, or how it fails; and the state after it."""
        try:
            result = self._do(action, *arguments)
        except Exception as error:  # noqa: BLE001  the failures are what is compared
            result = type(error)
        return result, self.db.in_transaction, [self._state(cursor) for cursor in self.cursors]

    def _do(self, action: str, *arguments: Any) -> Any:
        if action in ("commit", "rollback"):
            return getattr(self.db, action)()
        if action.endswith(("_level", "_factory")):
            setattr(self.db, action, *arguments)
            return None
        number, *rest = arguments
        if action == "close":
            self.cursors[number].close()
            self.cursors[number] = self.db.cursor()
            return None
        result = getattr(self.cursors[number], action)(*rest)
        return None if result is self.cursors[number] else _plain(result)

    def _state(self, cursor: Any) -> tuple[Any, ...]:
        return cursor.rowcount, cursor.lastrowid, cursor.description


def _plain(result: Any) -> Any:
    if isinstance(result, list):
        return [_plain(row) for row in result]
    if isinstance(result, sqlite3.Row):
        return "row", result.keys(), tuple(result)
    return result


@settings(max_examples=150, deadline=None)
@given(st.lists(steps, min_size=1, max_size=25))
def test_programs_do_the_same(program):
    standard, face = Program(sqlite3), Program(dbapi)
    for step in program:
        assert face.do(*step) == standard.do(*step), step
    for end in (standard, face):
        end.db.close()
