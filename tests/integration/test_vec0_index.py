"""The vec0 engine: a derived table that finds what the exact search finds, and goes when it should."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from served import site

from nearsql.pipeline.cli import cli
from nearsql.pipeline.index import index, store
from nearsql.pipeline.index.check import check_indexes
from nearsql.pipeline.index.listing import stored_indexes
from nearsql.udfs import connection, dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search import memory, vec0_index
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]

BY_VEC0 = "select id, distance, rank from knn(?, ?, ?) where engine = 'vec0'"
EXACTLY = "select id, distance, rank from knn(?, ?, ?) where exact = 1"
TABLES = "select count(*) from sqlite_schema where name like '\\_nearsql\\_vec0%' escape '\\'"


def points(n: int, d: int = 6, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=(n, d)).astype(np.float32)


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_it_finds_what_the_exact_search_finds(
    db: dbapi.Connection, add_space: Fill, metric: str
) -> None:
    vectors = points(3000)  # three of vec0's chunks
    vectors[[5, 70, 900]] = 0
    vectors[100:400] = vectors[100]
    space_id = add_space("s", vectors, metric=metric, first_item=50)
    (result,) = index(db, ["s"], "vec0")
    assert (result.engine, result.n) == ("vec0", 3000)
    assert result.recall == {1: 1.0, 10: 1.0, 100: 1.0}
    there = db.execute(f"select count(*) from {vec0_index.table_name(space_id)}").fetchone()
    assert there == (2997 if metric == "cosine" else 3000,)
    for query in (50, 55, 152, 2000, points(1, seed=5)[0].tobytes(), np.zeros(6, "<f4").tobytes()):
        for k in (1, 7, 100):
            asked = ("s", query, k)
            found = db.execute(BY_VEC0, asked).fetchall()
            exact = db.execute(EXACTLY, asked).fetchall()
            assert [distance for _, distance, _ in found] == [distance for _, distance, _ in exact]
            # Of duplicates that are not all among the k, sqlite-vec gives any and ours come by id.
            farthest = exact[-1][1]
            assert [r for r in found if r[1] < farthest] == [r for r in exact if r[1] < farthest]
    assert all(finding.wrong == 0 for finding in check_indexes(db))


@settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=2, max_size=25),
    query=st.tuples(*[st.integers(-2, 2)] * 2),
    metric=st.sampled_from(["cosine", "l2"]),
    k=st.integers(1, 30),
)
def test_distances_on_a_grid_of_ties_and_zeros(
    db: dbapi.Connection,
    add_space: Fill,
    rows: list[tuple[int, int]],
    query: tuple[int, int],
    metric: str,
    k: int,
) -> None:
    for (space_id,) in db.execute("select id from spaces").fetchall():
        db.execute("delete from vector_indexes")
        vec0_index.drop(db.apsw, space_id)
    db.execute("delete from spaces")
    db.execute("delete from items")
    space_id = add_space("s", np.array(rows, float), metric=metric)
    index(db, ["s"], "vec0")
    space = find_space(db.apsw, "s")
    zeros = np.frombuffer(
        b"".join(data for (data,) in db.execute("select data from vector_index_chunks")), "<i8"
    )
    asked = np.array([query], np.float32)
    (found,) = vec0_index.candidates(db.apsw, space, asked, k, zeros)
    assert len(set(found.tolist())) == len(found)
    vectors = np.array(rows, np.float64)
    if metric == "l2":
        distances = np.sqrt(((vectors - query) ** 2).sum(axis=1))
    else:
        sizes = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        products = vectors @ np.array(query, float)
        distances = 1 - np.divide(products, sizes, out=np.zeros(len(rows)), where=sizes > 0)
    nearest = np.sort(distances)[:k]
    np.testing.assert_allclose(np.sort(distances[found - 1])[:k], nearest, atol=1e-6)


def test_what_changed_since_is_found(db: dbapi.Connection, add_space: Fill) -> None:
    vectors = points(300)
    add_space("s", vectors)
    index(db, ["s"], "vec0")
    db.execute("delete from vectors where item_id between 20 and 60")
    db.execute("update vectors set vector = ? where item_id = 9", (vectors[99].tobytes(),))
    db.commit()
    add_space("t", points(1), first_item=900)  # an item to be added
    db.execute("insert into vectors (space_id, item_id, vector) values (1, 900, ?)", (vectors[99],))
    db.commit()
    found = db.execute(BY_VEC0, ("s", 100, 12)).fetchall()
    assert found == db.execute(EXACTLY, ("s", 100, 12)).fetchall()
    assert [i for i, _, _ in found[:2]] == [9, 900]
    assert [one.changed for one in stored_indexes(db)] == [43]


def test_it_answers_by_itself_when_the_vectors_do_not_fit(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", points(4000, 32))
    index(db, ["s"], "vec0")
    plan = "select value from search_plan('s', 10) where fact = 'engine'"
    assert db.execute(plan).fetchone() == ("exact",)
    monkeypatch.setenv(memory.MEMORY_VARIABLE, "300kB")
    assert db.execute(plan).fetchone() == ("vec0",)
    found = db.execute("select * from knn('s', 17, 10)").fetchall()
    assert found == db.execute(EXACTLY, ("s", 17, 10)).fetchall()
    # Above vec0's 4,096, and above the k whose recall is known: exactly.
    for k in (101, 3999, 5000):
        assert len(db.execute(BY_VEC0, ("s", 17, k)).fetchall()) == min(k, 3999)


def test_spaces_that_it_cannot_hold(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("inner", points(10), metric="ip")
    with pytest.raises(SqlFunctionError, match="inner product, which vec0 does not have: use the"):
        index(db, ["inner"], "vec0")
    add_space("wide", np.zeros((3, 8193)))
    with pytest.raises(SqlFunctionError, match="8,193 dimensions, and vec0 takes 8,192"):
        index(db, ["wide"], "vec0")
    add_space("long", np.array([[1, 2], [1e19, 0], [3, 4]]))
    with pytest.raises(SqlFunctionError, match="the vector of item 2 in space 'long' is too long"):
        index(db, ["long"], "vec0")
    add_space("fine", points(10, 2))
    index(db, ["fine"], "vec0")
    with pytest.raises(dbapi.OperationalError, match="too long for the float32 arithmetic of vec0"):
        db.execute(BY_VEC0, ("fine", "[1e19, 0]", 3)).fetchall()
    assert [one.space for one in stored_indexes(db)] == ["fine"]
    assert vec0_index.spaces_with_table(db.apsw) == [find_space(db.apsw, "fine").id]


def test_a_table_goes_with_its_index_and_outlives_no_space(
    db: dbapi.Connection, database: Path, add_space: Fill
) -> None:
    add_space("s", points(100))
    add_space("t", points(100))
    index(db, ["s", "t"], "vec0")
    assert db.execute(TABLES).fetchone()[0] >= 10
    dropped = CliRunner().invoke(cli, ["index", str(database), "s", "--drop"])
    assert "removed the vec0 index of s" in dropped.stderr
    assert vec0_index.spaces_with_table(db.apsw) == [2]
    # A foreign key takes the row and not the table; a new space may get the old one's id.
    db.execute("delete from spaces where name = 't'")
    db.commit()
    add_space("u", points(50, seed=1))
    assert vec0_index.spaces_with_table(db.apsw) == [2] == [find_space(db.apsw, "u").id]
    listed = CliRunner().invoke(cli, ["index", str(database), "--drop"])
    assert "removed the table _nearsql_vec0_2, whose space is deleted" in listed.stderr
    assert db.execute(TABLES).fetchone() == (0,)
    nothing = CliRunner().invoke(cli, ["index", str(database), "--drop"])
    assert "the indexes are none" in str(nothing.exception)
    index(db, ["u"], "vec0")
    db.execute("delete from spaces where name = 'u'")
    db.commit()
    add_space("v", points(20))
    (line,) = store.remove_leftovers(db)
    assert "_nearsql_vec0_2" in line
    index(db, ["v"], "vec0")
    assert (
        db.execute(BY_VEC0, ("v", 1, 3)).fetchall() == db.execute(EXACTLY, ("v", 1, 3)).fetchall()
    )


def test_built_anew_it_holds_what_is_there_now(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", points(200))
    (first,) = index(db, ["s"], "vec0")
    assert not index(db, ["s"], "vec0")[0].is_new
    db.execute("delete from vectors where item_id > 150")
    db.commit()
    (second,) = index(db, ["s"], "vec0")
    assert (second.is_new, second.n) == (True, 150)
    assert [one.id for one in stored_indexes(db)] == [second.index_id]
    assert first.index_id != second.index_id
    assert db.execute("select count(*) from vector_indexes").fetchone() == (1,)
    assert len(vec0_index.items(db.apsw, find_space(db.apsw, "s"))) == 150


FAKES = [
    "create table _nearsql_vec0_1 (vector, k, distance)",
    "create view _nearsql_vec0_1 as select 1 as vector, 2 as k, load_extension('x') as distance",
    "create virtual table _nearsql_vec0_1 using vec0(vector float[9] distance_metric=l2)",
    "create virtual table _nearsql_vec0_1 using fts5(vector, k, distance)",
]


@pytest.mark.parametrize("sql", [None, *FAKES])
def test_another_table_in_its_place_is_refused(
    db: dbapi.Connection, add_space: Fill, sql: str | None
) -> None:
    add_space("s", points(50))
    index(db, ["s"], "vec0")
    db.execute("drop table _nearsql_vec0_1")
    if sql:
        db.execute(sql)
    db.commit()
    with pytest.raises(
        dbapi.OperationalError, match="lost its table _nearsql_vec0_1: build it anew"
    ):
        db.execute(BY_VEC0, ("s", 1, 5)).fetchall()
    assert [finding.wrong > 0 for finding in check_indexes(db)][:1] == [True]
    if sql and "view" not in sql:
        db.execute("delete from spaces")
        db.commit()
        store.remove_leftovers(db)
        assert db.execute(TABLES).fetchone() == (0,)


@pytest.mark.parametrize(
    ("sql", "detail"),
    [
        ("delete from _nearsql_vec0_1 where rowid = 7", "n is 49, and 50 was recorded"),
        (
            "update _nearsql_vec0_1 set vector = vec_f32('[9,9,9,9,9,9]') where rowid = 7",
            "sha256 is",
        ),
    ],
)
def test_check_finds_what_somebody_changed(
    db: dbapi.Connection, add_space: Fill, sql: str, detail: str
) -> None:
    add_space("s", points(50))
    index(db, ["s"], "vec0")
    db.execute(sql)
    db.commit()
    (wrong, *_) = [finding for finding in check_indexes(db) if finding.wrong]
    assert detail in (wrong.detail or "")


@pytest.fixture
def with_table(database: Path, db: dbapi.Connection, add_space: Fill) -> Path:
    add_space("s", points(50))
    index(db, ["s"], "vec0")
    return database


def test_other_programs(with_table: Path) -> None:
    """As docs/searching.md says: sqlite3 reads the rest of the file, Datasette without nearsql nothing."""
    shell = shutil.which("sqlite3")
    assert shell
    for sql, answer, error in (
        ("select count(*) from vectors", "50\n", ""),
        ("select count(*) from embeddings", "50\n", ""),
        ("select count(*) from _nearsql_vec0_1", "", "no such module: vec0"),
    ):
        done = subprocess.run([shell, str(with_table), sql], capture_output=True, text=True)
        assert done.stdout == answer
        assert error in done.stderr
    # Without the plugins that are installed, as Datasette's own tests start it.
    stock = "import sys; sys._called_from_test = True; from datasette.cli import cli; cli()"
    words = [str(with_table), "--get", "/"]
    done = subprocess.run([sys.executable, "-c", stock, *words], capture_output=True, text=True)
    assert done.returncode != 0
    assert "failed check: no such module: vec0" in done.stderr
    # sqlite-vec itself, loaded by whoever wants to search the table.
    db = connection.connect(with_table, read_only=True)
    asked = "select rowid from _nearsql_vec0_1 where vector match ? and k = 5 order by distance"
    query = points(50)[3]
    assert db.execute(asked, (query.tobytes(),)).fetchone() == (4,)
    db.close()


def test_datasette_opens_the_file_and_does_not_show_the_tables(with_table: Path) -> None:
    with site(with_table) as opened:
        page = opened.get("/test.json").json()
        shown = {table["name"]: table["hidden"] for table in page["tables"]}
        ours = [name for name in shown if name.startswith("_nearsql_vec0_")]
        assert len(ours) == 5
        assert all(shown[name] for name in ours)
        assert not shown["vectors"]
        asked = "select id from knn('s', 1, 5) where engine = 'vec0'"
        assert len(json.loads(opened.query("test", asked).text)["rows"]) == 5
