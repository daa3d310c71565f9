"""`nearsql neighbors`: the stored graph equals knn_graph; what the command says and refuses."""

import json
import shlex
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from stored_graphs import GRAPH, change, points, stored

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.neighbors import neighbors, stored_neighbors
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import connection, dbapi
from nearsql.udfs.errors import SqlFunctionError

Fill = Callable[..., int]


@pytest.mark.parametrize("metric", ["cosine", "l2", "ip"])
def test_the_rows_are_those_of_knn_graph(
    db: dbapi.Connection, add_space: Fill, metric: str, small_blocks: None
) -> None:
    rows = points(50)
    rows[[3, 11, 30]] = 0  # of no direction, and duplicates of each other
    add_space("s", rows, metric=metric, first_item=100)
    (result,) = neighbors(db, ["s"], k=7)
    assert stored(db, result.run_id) == db.execute(GRAPH, ("s", 7)).fetchall()
    assert result.counts == {"items": 50, "neighbors": 350}
    assert result.is_new
    found = db.execute(
        "select status, kind, parameters_json, counts_json, length(result_sha256) from runs"
    ).fetchone()
    pin = db.execute("select generation, generation_token from spaces").fetchone()
    assert found[:2] == ("finished", "neighbors")
    assert json.loads(found[2]) == {
        "method": "exact",
        "space": "s",
        "k": 7,
        "within": None,
        "generation": pin[0],
        "generation_token": pin[1],
    }
    assert (json.loads(found[3]), found[4]) == (result.counts, 64)
    inputs = "select kind, name, generation, generation_token, rows from run_inputs"
    assert db.execute(inputs).fetchall() == [("space", "s", *pin, 50)]


@settings(
    max_examples=25, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    rows=st.lists(st.tuples(*[st.integers(-2, 2)] * 2), min_size=2, max_size=20),
    k=st.integers(1, 25),
)
def test_brute_force_ties_and_more_neighbours_than_there_are(
    db: dbapi.Connection, add_space: Fill, rows: list[tuple[int, int]], k: int, small_blocks: None
) -> None:
    """Points on a small grid: most distances are ties, and many items are duplicates."""
    db.execute("delete from spaces")
    db.execute("delete from items")
    vectors = np.array(rows, float)
    add_space("s", vectors)
    (result,) = neighbors(db, ["s"], k=k)
    expected = []
    for a, vector in enumerate(vectors):
        squares = ((vectors - vector) ** 2).sum(axis=1)
        order = [b for b in np.lexsort((np.arange(len(rows)), squares)) if b != a][:k]
        for rank, b in enumerate(order, start=1):
            expected.append((a + 1, int(b) + 1, pytest.approx(np.sqrt(squares[b])), rank))
    assert stored(db, result.run_id) == expected


def test_a_space_without_two_items_is_skipped_with_the_reason(
    db: dbapi.Connection, add_space: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    add_space("empty", np.empty((0, 2)))
    add_space("one", np.ones((1, 2)))
    add_space("two", np.ones((2, 2)))
    results = neighbors(db, ["empty", "one", "two", "two"], k=5)
    assert [(r.space, r.run_id, r.counts["items"]) for r in results] == [
        ("empty", None, 0),
        ("one", None, 1),
        ("two", 1, 2),
    ]
    said = capsys.readouterr().err
    assert "skipped empty: it has 0 items, and 2 are needed to be neighbours" in said
    assert "skipped one: it has 1 item, and 2 are needed" in said
    assert stored(db, 1) == [(1, 2, 0.0, 1), (2, 1, 0.0, 1)]
    assert db.execute("select count(*) from runs").fetchone() == (1,)


def test_a_second_run_has_nothing_to_do(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", points(12))
    assert stored_neighbors(db, "s", 1) is None
    (first,) = neighbors(db, ["s"], k=5)
    for k in (5, 3):
        assert stored_neighbors(db, "s", k) == first.run_id
        (again,) = neighbors(db, ["s"], k=k)
        assert (again.run_id, again.is_new) == (first.run_id, False)
    assert stored_neighbors(db, "s", 6) is None
    with pytest.raises(SqlFunctionError, match="there is no space 't'"):
        stored_neighbors(db, "t", 5)
    (more,) = neighbors(db, ["s"], k=11)
    assert more.is_new
    # Eleven are all the others that there are: no k asks for more.
    assert stored_neighbors(db, "s", 99) == more.run_id
    change(db)
    assert stored_neighbors(db, "s", 5) is None
    (new,) = neighbors(db, ["s"], k=5)
    assert new.is_new
    assert stored(db, new.run_id) == db.execute(GRAPH, ("s", 5)).fetchall()
    assert len(stored(db, first.run_id)) == 12 * 5  # an earlier result stays
    # As in a backup whose vectors were changed as often, in another way.
    db.execute("update spaces set generation_token = generation_token / 2 + 1")
    assert stored_neighbors(db, "s", 5) is None


def test_replay_and_what_it_needs(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", points(40), metric="ip")
    (result,) = neighbors(db, ["s"], k=4)
    assert result.run_id is not None
    db.execute("update spaces set name = 'renamed'")
    db.commit()
    assert replay(db, result.run_id).is_same
    change(db)
    with pytest.raises(CannotReplay, match="its vectors have changed"):
        replay(db, result.run_id)


def test_the_hash_tells_graphs_apart(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("a", points(20))
    add_space("b", points(20, seed=1))
    for k in (4, 5):
        neighbors(db, ["a", "b"], k=k)
    hashes = [h for (h,) in db.execute("select result_sha256 from runs")]
    assert len(set(hashes)) == 4


def test_refusals_are_sentences(db: dbapi.Connection, add_space: Fill) -> None:
    with pytest.raises(LookupError, match="no space 's': the spaces are none; run `nearsql embed`"):
        neighbors(db, ["s"])
    add_space("s", points(5))
    with pytest.raises(LookupError, match=r"there is no space 't': the spaces are s$"):
        neighbors(db, ["s", "t"])
    with pytest.raises(UserError, match="k must be at least 1, not 0"):
        neighbors(db, ["s"], k=0)
    with pytest.raises(UserError, match="name the spaces"):
        neighbors(db, [])
    assert db.execute("select count(*) from runs").fetchone() == (0,)


def test_command(db: dbapi.Connection, add_space: Fill, database: Path) -> None:
    add_space("s", points(40), first_item=11)
    arguments = ["neighbors", str(database), "s", "-k", "6"]
    outcome = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0
    assert "s: 40 items, 240 rows, about 14.9 kB in the file and 0 seconds" in outcome.output
    assert "run 1: s\n  items      40\n  neighbors  240\n" in outcome.output
    query = (
        "select rank, neighbor_id, distance from neighbors where run_id = 1 and item_id = 11"
        " order by rank"
    )
    assert len(db.execute(query).fetchall()) == 6
    assert shlex.split(outcome.output.partition("next: ")[2]) == [
        "nearsql",
        "sql",
        str(database),
        query,
    ]
    again = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert "nothing to do: run 1 has these neighbours of s" in again.output
    assert query in again.output
    assert db.execute("select count(*) from runs").fetchone() == (1,)


def test_command_with_nothing_to_store(
    db: dbapi.Connection, add_space: Fill, database: Path
) -> None:
    add_space("one", np.ones((1, 2)))
    with pytest.raises(UserError, match="no neighbours were stored: see above"):
        CliRunner().invoke(cli, ["neighbors", str(database), "one"], catch_exceptions=False)
    unnamed = CliRunner().invoke(cli, ["neighbors", str(database)])
    assert unnamed.exit_code == 2
    assert "Missing argument 'SPACE...'" in unnamed.output


def test_deleting_the_run_deletes_its_graph(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", points(10))
    (result,) = neighbors(db, ["s"])
    assert result.counts["neighbors"] == 90
    db.execute("delete from runs where id = ?", (result.run_id,))
    assert db.execute("select count(*) from neighbors").fetchone() == (0,)
    assert stored_neighbors(db, "s", 3) is None


def test_a_copy_is_served_by_its_own_run(
    db: dbapi.Connection, add_space: Fill, tmp_path: Path
) -> None:
    """A file's copy keeps its graph until its vectors change, whatever happens to the first."""
    add_space("s", points(10))
    (result,) = neighbors(db, ["s"], k=3)
    db.execute("vacuum into ?", (str(tmp_path / "copy.db"),))
    change(db)
    copy = connection.connect(tmp_path / "copy.db")
    assert stored_neighbors(copy, "s", 3) == result.run_id
    assert stored_neighbors(db, "s", 3) is None
    copy.close()
