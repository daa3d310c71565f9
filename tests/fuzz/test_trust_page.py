"""docs/trust.md names tests that exist, and what it says of SQL is so."""

import ast
import re
import sqlite3
from pathlib import Path

import pytest

from nearsql.udfs import dbapi

ROOT = Path(__file__).parents[2]
PAGE = (ROOT / "docs" / "trust.md").read_text("utf-8")
NAMED = sorted(set(re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", PAGE)))


def test_the_page_names_tests() -> None:
    assert len(NAMED) > 30
    # Whatever looks like one is read as one.
    assert len(re.findall(r"tests/\w+/test_", PAGE)) == len(
        re.findall(r"`tests/\w+/test_\w+\.py(?:::\w+)?`", PAGE)
    )


@pytest.mark.parametrize(("path", "name"), NAMED)
def test_each_named_test_exists(path: str, name: str) -> None:
    tree = ast.parse((ROOT / path).read_text("utf-8"))
    functions = {node.name for node in ast.walk(tree) if isinstance(node, ast.FunctionDef)}
    assert name in functions if name else any(each.startswith("test_") for each in functions)


@pytest.mark.parametrize("heading", ["Hostile files", "Old files", "The browser"])
def test_every_promise_names_its_test(heading: str) -> None:
    """Each point of these sections ends with who would fail."""
    section = PAGE.split(f"\n## {heading}\n")[1].split("\n## ")[0]
    points = re.findall(r"^- .*(?:\n  .*)*", section, re.MULTILINE)
    assert len(points) >= 3
    for point in points:
        assert re.search(r"`tests/[\w/]+\.py", point), point


@pytest.mark.parametrize(
    ("sql", "refusal"),
    [
        ("delete from items", "there is no selection"),
        ("with x as (select 1) delete from items", "must only read"),
        ("with x as (select 1) insert into metadata values ('a', 'b')", "must only read"),
        ("select 1; delete from items", "must be one statement"),
        ("select 1; attach ':memory:' as other", "must be one statement"),
        ("select load_extension('x')", "not authorized"),
        ("select readfile('/etc/passwd')", "no such function"),
    ],
)
def test_sql_in_an_argument_only_reads(db: dbapi.Connection, sql: str, refusal: str) -> None:
    db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('s', 'embedding', 1, 'l2')"
    )
    db.execute(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (1, 'text', 'c', ?, 'x', 0)",
        ("0" * 64,),
    )
    db.execute("insert into vectors (space_id, item_id, vector) values (1, 1, x'00000000')")
    for call in ("knn('s', '[0]', 1, ?)", "outliers('s', 1, ?)", "duplicates('s', 1.0, ?)"):
        with pytest.raises(sqlite3.OperationalError, match=refusal):
            db.execute(f"select * from {call}", (sql,)).fetchall()
    assert db.execute("select count(*) from items").fetchone() == (1,)


def test_sql_loads_no_extension_and_reads_no_file(db: dbapi.Connection) -> None:
    for call, refusal in (
        ("load_extension('x.so')", "not authorized"),
        ("readfile('/etc/passwd')", "no such function"),
        ("writefile('x', 'y')", "no such function"),
        ("edit('x')", "no such function"),
    ):
        with pytest.raises(sqlite3.OperationalError, match=refusal):
            db.execute(f"select {call}").fetchall()
    modules = {name for (name,) in db.execute("select name from pragma_module_list")}
    assert not modules & {"csv", "fsdir", "zipfile", "vfsstat"}
