"""`nearsql select`: what selections hold, where their names are taken, and what is refused."""

import hashlib
import json
import sqlite3
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.select import drop, find, items_of, read_ids, select, selections
from nearsql.pipeline.within import within_ids
from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError

Fill = Callable[..., int]


@pytest.fixture
def filled(db: dbapi.Connection, add_space: Fill) -> dbapi.Connection:
    """Space `s` of twelve items on a line, the first three of them called red."""
    add_space("s", np.arange(12, dtype=np.float32)[:, None])
    db.execute(
        "insert into item_labels select id, 'colour', 'red', 'tests' from items where id <= 3"
    )
    db.commit()
    return db


def ids_of(db: dbapi.Connection, name: str) -> list[int]:
    return [row[0] for row in items_of(db, find(db, name))]


def command(database: Path, *words: str, stdin: str | None = None) -> Result:
    return CliRunner().invoke(cli, ["select", str(database), *words], input=stdin)


RED = "select item_id, value from item_labels where value = 'red' order by 1 desc"


def test_by_sql(filled: dbapi.Connection) -> None:
    made = select(filled, "red things", sql=RED, note="to look at")
    assert (made.how, made.sql, made.items, made.note) == ("sql", RED, 3, "to look at")
    assert selections(filled) == [made]
    rows = items_of(filled, made).fetchall()
    assert [row[0] for row in rows] == [1, 2, 3]
    assert json.loads(rows[0][-1]) == {"colour": "red"}
    # It stays as it is.
    filled.execute("update item_labels set value = 'blue'")
    filled.commit()
    assert ids_of(filled, "red things") == [1, 2, 3]


def test_by_ids_and_made_again(filled: dbapi.Connection) -> None:
    first = select(filled, "few", ids=[9, 2, 9])
    assert ids_of(filled, "few") == [2, 9]
    with pytest.raises(UserError, match="there is a selection 'few' already: --replace"):
        select(filled, "few", sql=RED)
    again = select(filled, "few", sql=RED, replace=True)
    assert (again.id, again.how, again.items) == (first.id, "sql", 3)
    assert ids_of(filled, "few") == [1, 2, 3]
    assert drop(filled, "few") == again
    assert selections(filled) == []
    assert filled.execute("select count(*) from selection_items").fetchone() == (0,)
    assert filled.execute("select count(*) from items").fetchone() == (12,)


def test_the_name_stands_for_the_items(filled: dbapi.Connection) -> None:
    select(filled, "red things", sql=RED)
    ids = "[1, 2, 3]"
    for sql in (
        "select * from knn('s', 12, 5, ?)",
        "select * from knn_batch('s', '[12, 5]', 2, ?)",
        "select * from knn_graph('s', 2, ?)",
    ):
        rows = filled.execute(sql, ("red things",)).fetchall()
        assert rows == filled.execute(sql, (ids,)).fetchall() != []
    # As a subquery, and a SELECT of its items, too.
    sql = "select id from knn('s', 12, 5, 'select item_id from selection_items where item_id > 1')"
    assert filled.execute(sql).fetchall() == [(3,), (2,)]


def test_an_unknown_name_says_which_there_are(filled: dbapi.Connection) -> None:
    ask = "select * from knn('s', 1, 5, 'blue')"
    with pytest.raises(
        sqlite3.OperationalError, match="no selection 'blue': this database has none"
    ):
        filled.execute(ask)
    select(filled, "green", ids=[1])
    select(filled, "red", ids=[1])
    with pytest.raises(
        sqlite3.OperationalError, match="the selections are green, red; or give a SELECT"
    ):
        filled.execute(ask)
    with pytest.raises(LookupError, match="no selection 'blue': the selections are green, red"):
        find(filled, "blue")


def test_deleted_items_leave_it(filled: dbapi.Connection) -> None:
    select(filled, "few", ids=[2, 9])
    filled.execute("delete from items where id = 2")
    filled.commit()
    assert ids_of(filled, "few") == [9]


@pytest.mark.parametrize(
    "name",
    [
        "",
        " red",
        "red ",
        "two\nlines",
        "tab\there",
        "select",
        "SELECT best",
        "with friends",
        "values",
        "[1]",
        "/* c */ select",
        "n" * 201,
    ],
)
def test_names_that_would_not_be_found(filled: dbapi.Connection, name: str) -> None:
    with pytest.raises(UserError, match="name"):
        select(filled, name, ids=[1])
    assert selections(filled) == []


@pytest.mark.parametrize(
    "name", ["red", "two words", "it's", "sélection ☃", "selected", "5", "a;b", "--x"]
)
def test_any_other_name_is_found(filled: dbapi.Connection, name: str) -> None:
    select(filled, name, ids=[4])
    assert filled.execute("select id from knn('s', 1, 5, ?)", (name,)).fetchall() == [(4,)]


@pytest.mark.parametrize(
    ("how", "message"),
    [
        ({"sql": "select id from items where 0"}, "would have no items"),
        ({"ids": []}, "would have no items"),
        ({"ids": [1, 98, 99]}, "98 is not the id of an item of this file, nor are 1 others"),
        ({"ids": [2**63]}, "--ids must give item ids"),
        ({"sql": "select 'x'"}, "the SELECT must give item ids"),
        ({"sql": "select null"}, "gave NULL"),
        ({"sql": "delete from items returning id"}, "must begin with SELECT"),
        ({"sql": "with x(i) as (values (1)) delete from items"}, "would write"),
        ({"sql": "select id from items; drop table items"}, "must be one statement"),
        ({"sql": "select id from nowhere"}, "no such table"),
        ({}, "one of --sql and --ids"),
        ({"sql": "select 1", "ids": [1]}, "one of --sql and --ids"),
    ],
)
def test_refusals(filled: dbapi.Connection, how: dict, message: str) -> None:
    select(filled, "known", ids=[5])
    with pytest.raises((UserError, SqlFunctionError), match=message):
        select(filled, "known", replace=True, **how)
    assert ids_of(filled, "known") == [5]
    assert filled.execute("select count(*) from items").fetchone() == (12,)
    assert not filled.in_transaction


@pytest.mark.parametrize(
    "text",
    [
        "3 1\n7",
        "3,1,7",
        "[3, 1, 7]",
        '[{"id": 3}, {"id": 1}, {"id": 7}]',
        '{"item_id": 3, "id": 99}\n{"item_id": 1}\n\n{"item_id": 7}\n',
        "id\n3\n1\n7\n",
        'name,item_id\n"a, b",3\nc,1\n"d\ne",7\n',
        "\ufeffid\r\n3\r\n1\r\n7",
    ],
)
def test_ids_as_other_programs_write_them(text: str) -> None:
    assert read_ids(text) == [3, 1, 7]


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1))
def test_ids_come_as_they_were_written(ids: list[int]) -> None:
    for text in (
        json.dumps(ids),
        "\n".join(map(str, ids)),
        "\n".join(json.dumps({"id": i}) for i in ids),
        "item_id\n" + "\n".join(map(str, ids)),
    ):
        assert read_ids(text) == ids


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("1 2 three", "'three' is no item id"),
        ("1.5", "'1.5' is no item id"),
        ("1_000", "'1_000' is no item id"),
        ("[1, true]", "true is no item id"),
        ('[{"name": 1}]', "null is no item id"),
        ('{"id": "1"}', '"1" is no item id'),
        ("{id: 1}", "is no line of JSON"),
        ("[1, 2", "not valid JSON"),
        ("id,name\n,x", "'' is no item id"),
    ],
)
def test_ids_that_are_none(text: str, message: str) -> None:
    with pytest.raises((UserError, SqlFunctionError), match=message):
        read_ids(text)


def test_the_command(filled: dbapi.Connection, database: Path, tmp_path: Path) -> None:
    made = command(database, "red things", "--sql", RED, "--note", "a note")
    assert made.exit_code == 0, made.output
    assert "items  3" in made.stderr
    assert "next: nearsql export" in made.stderr
    assert command(database, "few", "--ids", "-", stdin="7\n8\n").exit_code == 0
    (tmp_path / "ids.csv").write_text("id\n9\n")
    assert command(database, "one", "--ids", str(tmp_path / "ids.csv")).exit_code == 0
    listed = json.loads(command(database, "--list", "--json").stdout)
    assert [(row["name"], row["how"], row["items"]) for row in listed] == [
        ("few", "ids", 2),
        ("one", "ids", 1),
        ("red things", "sql", 3),
    ]
    shown = command(database, "--show", "few", "--nl")
    assert [json.loads(line)["id"] for line in shown.stdout.splitlines()] == [7, 8]
    assert "made by  ids" in shown.stderr
    assert "2, which stay" in command(database, "--drop", "few").stderr
    assert [one.name for one in selections(filled)] == ["one", "red things"]


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ((), "give one of NAME"),
        (("a", "--list"), "give one of NAME .*, not NAME and --list"),
        (("a",), "by one of --sql and --ids"),
        (("--list", "--note", "x"), "--note makes a selection: give its NAME"),
        (("--show", "a"), "no selection 'a': the selections are none"),
        (("--drop", "a"), "no selection 'a'"),
    ],
)
def test_the_command_refuses(
    filled: dbapi.Connection, database: Path, words: tuple[str, ...], message: str
) -> None:
    done = command(database, *words)
    assert done.exit_code == 1
    with pytest.raises((UserError, LookupError), match=message):
        assert done.exception is not None
        raise done.exception


def test_the_recorded_hash_is_that_of_a_shell(filled: dbapi.Connection) -> None:
    select(filled, "few", ids=[10, 9, 2])
    found = within_ids(filled, "few")
    assert found is not None
    assert found.sha256 == hashlib.sha256(b"2\n9\n10\n").hexdigest()
