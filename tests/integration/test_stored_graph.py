"""A stored neighbour graph is read instead of computed, and nothing but the time differs."""

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sklearn.datasets import load_digits

from nearsql.pipeline import neighbors as neighbors_module
from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.cluster import run as cluster_module
from nearsql.pipeline.neighbors import neighbors, stored_neighbors
from nearsql.pipeline.project import project_space
from nearsql.pipeline.replay import replay
from nearsql.udfs import dbapi
from nearsql.udfs.clustering import neighbor_lists as lists
from nearsql.udfs.search import stored_graph as module
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.search.neighbors import neighbor_graph
from nearsql.udfs.search.stored_graph import known_graph, noting_graph_runs, stored_graph
from nearsql.udfs.space_points import euclidean, part
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]

RUNS_READ = "select input_run_id, name from run_inputs where run_id = ? and kind = 'run'"
METRICS = st.sampled_from(["cosine", "l2"])

many = settings(
    max_examples=30, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)


@st.composite
def awkward_rows(draw: st.DrawFn) -> np.ndarray:
    """Few points with zeros, duplicates, equal directions, ties, and near-ties of one rounding."""
    n, d = draw(st.integers(3, 40)), draw(st.integers(1, 6))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    rows = rng.integers(-2, 3, (n, d)).astype(np.float32)
    if draw(st.booleans()):
        rows += rng.normal(size=(n, d)).astype(np.float32) * draw(st.sampled_from([1e-7, 0.3]))
    if draw(st.booleans()):
        rows *= rng.choice(np.array([1, 2, 3, 1e-20], np.float32), (n, 1))
    rows[rng.random(n) < draw(st.sampled_from([0.0, 0.1, 0.7]))] = 0
    return rows


def matrix_of(db: dbapi.Connection, space: str = "s") -> Matrix:
    return load_matrix(db.apsw, find_space(db.apsw, space))


def fill_anew(db: dbapi.Connection, add_space: Fill, rows: np.ndarray, metric: str) -> None:
    for table in ("runs", "spaces", "items"):
        db.execute(f"delete from {table}")
    add_space("s", rows, metric=metric, first_item=100)


def same(found: tuple[Any, Any] | None, expected: tuple[Any, Any]) -> bool:
    """To the last bit."""
    assert found is not None
    return all(
        (a.shape, a.dtype, a.tobytes()) == (b.shape, b.dtype, b.tobytes())
        for a, b in zip(found, expected, strict=True)
    )


@pytest.fixture
def small_reads(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", 16)


@many
@given(
    rows=awkward_rows(),
    metric=st.sampled_from(["cosine", "l2", "ip"]),
    stored=st.integers(1, 45),
    k=st.integers(1, 45),
)
def test_it_is_the_computed_graph_to_the_last_bit(
    db: dbapi.Connection,
    add_space: Fill,
    small_reads: None,
    rows: np.ndarray,
    metric: str,
    stored: int,
    k: int,
) -> None:
    fill_anew(db, add_space, rows, metric)
    assert stored_graph(db.apsw, matrix_of(db), k) is None
    (run,) = neighbors(db, ["s"], k=stored)
    matrix = matrix_of(db)
    with noting_graph_runs() as read:
        found = stored_graph(db.apsw, matrix, k)
        fewer = stored_graph(db.apsw, matrix, k, fewest=1)
    assert same(fewer, neighbor_graph(matrix, min(stored, k)))
    assert read == {run.run_id}
    if min(k, len(rows) - 1) <= stored:
        assert same(found, neighbor_graph(matrix, k))
    else:
        assert found is None
    assert same(known_graph(db.apsw, matrix, k), neighbor_graph(matrix, k))


@many
@given(
    rows=awkward_rows(),
    metric=METRICS,
    stored=st.integers(1, 12),
    min_samples=st.integers(1, 6),
)
def test_clusters_do_not_depend_on_it(
    db: dbapi.Connection,
    add_space: Fill,
    rows: np.ndarray,
    metric: str,
    stored: int,
    min_samples: int,
) -> None:
    fill_anew(db, add_space, rows, metric)
    question = "select * from hdbscan('s', 3, ?) order by id"
    computed = db.execute(question, (min_samples,)).fetchall()
    (run,) = neighbors(db, ["s"], k=stored)
    with noting_graph_runs() as read:
        assert db.execute(question, (min_samples,)).fetchall() == computed
    needed = min(min_samples + 1, len(rows) - 1)
    assert read == ({run.run_id} if stored >= needed else set())


@many
@given(rows=awkward_rows(), k=st.integers(1, 12))
def test_lists_by_cosine_distance_are_the_nearest_by_the_chord(
    db: dbapi.Connection, add_space: Fill, rows: np.ndarray, k: int
) -> None:
    """But for what rounding to float32 does to the points; among zeros and directions, exactly."""
    fill_anew(db, add_space, rows, "cosine")
    matrix = matrix_of(db)
    points = euclidean(matrix).vectors.astype(np.float64)
    places, distances = neighbor_graph(matrix, k)
    found = lists.chord_lists(places, distances, matrix.squared_norms == 0)
    assert found.shape == places.shape
    for own, place in enumerate(found):
        assert own not in place
        assert len(set(place.tolist())) == len(place)
        squares = ((points - points[own]) ** 2).sum(axis=1)
        squares[own] = np.inf
        best = np.sort(squares)[: len(place)]
        # Eight roundings at most between any two squared chords and their true values.
        np.testing.assert_allclose(np.sort(squares[place]), best, rtol=0, atol=2 * 8 * 2.0**-24)


def blobs(n: int = 120, d: int = 5) -> np.ndarray:
    rng = np.random.default_rng(1)
    return (rng.normal(size=(4, d))[np.arange(n) % 4] * 9 + rng.normal(size=(n, d))).astype("f4")


@pytest.mark.parametrize("metric", ["cosine", "l2"])
def test_clusters_of_digits(db: dbapi.Connection, add_space: Fill, metric: str) -> None:
    """Pixels are whole numbers: distances tie."""
    add_space("s", load_digits().data, metric=metric)
    questions = [
        f"select * from hdbscan('s', {size}, {min_samples}) order by id"
        for size, min_samples in ((5, "null"), (20, 10), (8, 28), (50, 1))
    ]
    computed = [db.execute(question).fetchall() for question in questions]
    neighbors(db, ["s"], k=30)
    for question, rows in zip(questions, computed, strict=True):
        with noting_graph_runs() as read:
            assert db.execute(question).fetchall() == rows
        assert read


def never(*args: Any, **options: Any) -> Any:
    raise AssertionError("the graph was computed, and it is stored")


@pytest.mark.parametrize("metric", ["cosine", "l2"])
@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_maps_do_not_depend_on_it(
    db: dbapi.Connection,
    add_space: Fill,
    monkeypatch: pytest.MonkeyPatch,
    metric: str,
    method: str,
) -> None:
    rows = load_digits().data[:200]
    rows[[3, 70]] = rows[4]
    add_space("s", rows, metric=metric)
    question = "select id, vector from project('s', ?, 2, 10, 0.1, 8)"
    computed = db.execute(question, (method,)).fetchall()
    neighbors(db, ["s"], k=24)
    monkeypatch.setattr(module, "neighbor_graph", never)
    assert db.execute(question, (method,)).fetchall() == computed
    # Each item's nearest are stored, but not its nearest among these.
    some = f"{question[:-1]}, 42, 'select id from items where id > 9')"
    with pytest.raises(dbapi.OperationalError, match="it is stored"):
        db.execute(some, (method,))


def test_runs_name_the_graph_they_read_and_replay_without_it(
    db: dbapi.Connection, add_space: Fill
) -> None:
    add_space("s", blobs(), metric="cosine")
    made = []
    for _ in range(2):
        (cluster,) = cluster_spaces(db, ["s"], min_cluster_size=8)
        made.append((cluster.run_id, project_space(db, "s", n_neighbors=8).run_id))
        if len(made) == 1:
            (graph,) = neighbors(db, ["s"], k=30)
    hashes = dict(db.execute("select id, result_sha256 from runs").fetchall())
    for before, after in zip(*made, strict=True):
        assert hashes[before] == hashes[after]
        assert db.execute(RUNS_READ, (before,)).fetchall() == []
        assert db.execute(RUNS_READ, (after,)).fetchall() == [
            (graph.run_id, f"neighbors {graph.run_id}")
        ]
        assert replay(db, before).is_same
        assert replay(db, after).is_same
    db.execute("delete from runs where id = ?", (graph.run_id,))
    db.commit()
    for run in made[1]:
        assert replay(db, run).is_same
        assert db.execute(RUNS_READ, (run,)).fetchall() == [(None, f"neighbors {graph.run_id}")]


def test_the_commands_say_whose_neighbours_they_read(
    db: dbapi.Connection, add_space: Fill, database: Path
) -> None:
    add_space("s", blobs())
    commands = [
        ["cluster", str(database), "s"],
        ["project", str(database), "s", "--method", "tsne", "--perplexity", "8"],
    ]
    for command in commands:
        outcome = CliRunner().invoke(cli, command, catch_exceptions=False)
        assert "neighbours" not in outcome.output
    neighbors(db, ["s"], k=30)
    for command in commands:
        outcome = CliRunner().invoke(cli, command, catch_exceptions=False)
        assert re.search(r"^  neighbours +stored by run 3$", outcome.output, re.MULTILINE)


def test_a_graph_that_is_deleted_meanwhile_is_still_named(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", blobs())
    (graph,) = neighbors(db, ["s"], k=30)
    compute = cluster_module.compute

    def then_delete(*args: Any) -> Any:
        rows = compute(*args)
        db.execute("delete from runs where id = ?", (graph.run_id,))
        db.commit()
        return rows

    monkeypatch.setattr(cluster_module, "compute", then_delete)
    (result,) = cluster_spaces(db, ["s"])
    assert db.execute(RUNS_READ, (result.run_id,)).fetchall() == [
        (None, f"neighbors {graph.run_id}")
    ]


def test_only_the_whole_space_as_it_is_now_is_served(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", blobs(40))
    add_space("t", blobs(40))
    neighbors(db, ["s"], k=30)
    matrix = matrix_of(db)
    assert stored_graph(db.apsw, matrix, 30) is not None
    assert stored_graph(db.apsw, matrix_of(db, "t"), 30) is None
    assert stored_graph(db.apsw, part(matrix, np.arange(20)), 5) is None
    db.execute("delete from vectors where item_id = 40")
    again = (matrix.vectors[3].tobytes(),)
    db.execute("insert into vectors (space_id, item_id, vector) values (1, 40, ?)", again)
    db.commit()
    assert stored_graph(db.apsw, matrix_of(db), 30) is None
    # The older matrix is of the vectors that the graph is of.
    assert same(stored_graph(db.apsw, matrix, 30), neighbor_graph(matrix, 30))
    (newer,) = neighbors(db, ["s"], k=5)
    with noting_graph_runs() as read:
        assert same(stored_graph(db.apsw, matrix_of(db), 3), neighbor_graph(matrix_of(db), 3))
    assert read == {newer.run_id}


def test_a_run_that_did_not_finish_does_not_serve(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", blobs(40))
    write = neighbors_module.write_block

    def then_stop(*args: Any) -> None:
        write(*args)
        raise KeyboardInterrupt

    with monkeypatch.context() as patched, pytest.raises(KeyboardInterrupt):
        patched.setattr(neighbors_module, "write_block", then_stop)
        neighbors(db, ["s"], k=5)
    assert db.execute("select count(*) from neighbors").fetchone() == (200,)  # all of them
    assert stored_graph(db.apsw, matrix_of(db), 5) is None
    neighbors(db, ["s"], k=5)
    assert stored_graph(db.apsw, matrix_of(db), 5) is not None


@pytest.mark.parametrize(
    "tampering",
    [
        "delete from neighbors where item_id = 7",
        "delete from neighbors where item_id = 40 and rank = 5",
        "update neighbors set rank = 9 where item_id = 7 and rank = 2",
        "update neighbors set neighbor_id = 7 where item_id = 7 and rank = 2",
        "update neighbors set neighbor_id = 400 where item_id = 7 and rank = 2",
        "update neighbors set neighbor_id = 401 where item_id = 7 and rank = 2",
        "update neighbors set distance = 1e9 where item_id = 7 and rank = 2",
        "update neighbors set distance = 9e999 where item_id = 7 and rank = 5",
        "update neighbors set item_id = 400 where item_id = 7",
        "insert into neighbors select run_id, 401, rank, 7, distance from neighbors where item_id = 40",
    ],
)
@pytest.mark.parametrize("rows_at_once", [16, 10_000])
def test_rows_that_are_not_a_whole_graph_are_not_believed(
    db: dbapi.Connection,
    add_space: Fill,
    monkeypatch: pytest.MonkeyPatch,
    tampering: str,
    rows_at_once: int,
) -> None:
    monkeypatch.setattr(module, "_ROWS_AT_ONCE", rows_at_once)
    add_space("other", blobs(2), first_item=400)  # items that are not in the space
    add_space("s", blobs(40))
    neighbors(db, ["s"], k=5)
    computed = neighbor_graph(matrix_of(db), 5)
    assert same(stored_graph(db.apsw, matrix_of(db), 5), computed)
    db.execute(tampering)
    with noting_graph_runs() as read:
        assert same(known_graph(db.apsw, matrix_of(db), 5), computed)
    assert not read


def test_what_an_unstrict_table_holds_is_not_believed(
    db: dbapi.Connection, add_space: Fill
) -> None:
    """As a file made by another hand may have it."""
    add_space("s", blobs(40))
    neighbors(db, ["s"], k=5)
    db.execute("create temp table copied as select * from neighbors")
    db.execute("drop table neighbors")
    db.execute("create table neighbors as select * from copied")
    matrix = matrix_of(db)
    assert same(stored_graph(db.apsw, matrix, 5), neighbor_graph(matrix, 5))
    for value in ("'near'", "null", "x'00'"):
        db.execute(f"update neighbors set distance = {value} where item_id = 7 and rank = 5")
        assert stored_graph(db.apsw, matrix, 5) is None
    db.execute("update neighbors set neighbor_id = 'far' where item_id = 7 and rank = 4")
    assert stored_graph(db.apsw, matrix, 5) is None


def test_rows_deleted_to_save_room_are_made_anew_when_asked_for(
    db: dbapi.Connection, add_space: Fill
) -> None:
    add_space("s", blobs(40))
    (first,) = neighbors(db, ["s"], k=5)
    for removal in ("delete from neighbors where rank > 3", "delete from neighbors"):
        db.execute(removal)
        db.commit()
        assert stored_neighbors(db, "s", 5) is None
        assert stored_neighbors(db, "s", 2) is None
        (again,) = neighbors(db, ["s"], k=5)
        assert again.is_new
        assert again.run_id != first.run_id
        assert same(stored_graph(db.apsw, matrix_of(db), 5), neighbor_graph(matrix_of(db), 5))
