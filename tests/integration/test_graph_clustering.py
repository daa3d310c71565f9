"""hdbscan over many items: from a neighbour graph, with what was approximated told."""

from collections.abc import Callable

import faiss
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.metrics import adjusted_rand_score

from nearsql.udfs import dbapi
from nearsql.udfs.clustering import approximations, space_tree
from nearsql.udfs.clustering.approximations import noting_approximations
from nearsql.udfs.own_points import has_room_for_both, own_points
from nearsql.udfs.search.matrix import load_matrix, matrix_bytes, resident_matrix
from nearsql.udfs.search.memory import residents
from nearsql.udfs.space_points import euclidean
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]

QUESTION = "select * from hdbscan('s', 15, 5) where neighbors = ? order by id"


@pytest.fixture
def rows(add_space: Fill) -> NDArray[np.float32]:
    """4,000 directions in 40 groups and between them."""
    rng = np.random.default_rng(3)
    centres = rng.normal(size=(40, 24))
    spread = rng.uniform(0.1, 0.4, 4000)[:, None]
    made = centres[rng.integers(0, 40, 4000)] + spread * rng.normal(size=(4000, 24))
    made[::5] = rng.normal(size=(800, 24))
    add_space("s", made.astype(np.float32), metric="cosine")
    return made.astype(np.float32)


def labels(found: list[tuple[object, ...]]) -> list[object]:
    return [-1 if row[1] is None else row[1] for row in found]


def test_a_graph_gives_nearly_the_same_clusters_and_says_so(
    db: dbapi.Connection, rows: NDArray[np.float32]
) -> None:
    with noting_approximations() as noted:
        exact = db.execute(QUESTION, ("exact",)).fetchall()
    assert noted == []
    with noting_approximations() as noted:
        graph = db.execute(QUESTION, ("graph",)).fetchall()
    (approximation,) = noted
    assert approximation.n == 4000
    assert approximation.k >= 32
    assert 0.9 < approximation.recall <= 1.0
    assert len(set(labels(exact))) > 20
    agreement = adjusted_rand_score(labels(exact), labels(graph))
    assert agreement > 0.98
    # All 4,000 points are among the 10,000 that are clustered in both ways.
    assert approximation.agreement == pytest.approx(agreement, abs=1e-12)


def test_auto_takes_the_graph_above_a_number_of_items(
    db: dbapi.Connection, rows: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    for limit, count in ((4000, 0), (3999, 1)):
        monkeypatch.setattr(approximations, "EXACT_UP_TO", limit)
        with noting_approximations() as noted:
            found = db.execute("select * from hdbscan('s', 15, 5) order by id").fetchall()
        assert len(noted) == count
        way = "graph" if count else "exact"
        assert found == db.execute(QUESTION, (way,)).fetchall()


def test_the_result_does_not_depend_on_the_number_of_threads(
    db: dbapi.Connection, rows: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    from nearsql.udfs.clustering import neighbor_search

    monkeypatch.setattr(neighbor_search, "_GROUP", 700)
    monkeypatch.setattr(space_tree, "_COMPARED", 1000)
    before = faiss.omp_get_max_threads()
    found = {}
    try:
        for threads in (1, 2, 3):
            faiss.omp_set_num_threads(threads)
            for way in ("exact", "graph"):
                with noting_approximations() as noted:
                    found[threads, way] = db.execute(QUESTION, (way,)).fetchall(), noted
    finally:
        faiss.omp_set_num_threads(before)
    for way in ("exact", "graph"):
        assert found[1, way] == found[2, way] == found[3, way]


@pytest.mark.parametrize("n", [2, 3, 5, 40])
def test_few_items_by_a_graph(db: dbapi.Connection, add_space: Fill, n: int) -> None:
    add_space("s", np.random.default_rng(n).normal(size=(n, 3)))
    exact = db.execute(QUESTION, ("exact",)).fetchall()
    assert db.execute(QUESTION, ("graph",)).fetchall() == exact


def test_duplicates_by_a_graph(db: dbapi.Connection, add_space: Fill) -> None:
    rng = np.random.default_rng(0)
    add_space("s", np.repeat(rng.normal(size=(6, 4)), 50, axis=0))
    found = db.execute(QUESTION, ("graph",)).fetchall()
    exact = db.execute(QUESTION, ("exact",)).fetchall()
    assert adjusted_rand_score(labels(exact), labels(found)) == 1.0
    assert {row[4] for row in found} == {0.0}


def test_other_ways_are_refused(db: dbapi.Connection, rows: NDArray[np.float32]) -> None:
    with pytest.raises(
        dbapi.Error, match="neighbors must be one of auto, exact, graph, not 'fast'"
    ):
        db.execute(QUESTION, ("fast",)).fetchall()


def test_where_memory_has_room_for_one_copy_the_clusters_are_the_same(
    db: dbapi.Connection, rows: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = db.execute(QUESTION, ("graph",)).fetchall()
    space = find_space(db.apsw, "s")
    assert has_room_for_both(db.apsw, space)
    one = matrix_bytes(*rows.shape)
    monkeypatch.setenv("NEARSQL_MEMORY", f"{1.5 * one:.0f}")
    assert not has_room_for_both(db.apsw, space)
    assert db.execute(QUESTION, ("graph",)).fetchall() == expected
    # The matrix that searches share was dropped, and is not kept beside the points.
    assert resident_matrix(db.apsw, space) is None


def test_own_points_are_those_of_the_shared_matrix(db: dbapi.Connection, add_space: Fill) -> None:
    rows = np.random.default_rng(5).normal(size=(9000, 3)).astype(np.float32)
    rows[7] = 0.0
    add_space("z", rows, metric="cosine")
    space = find_space(db.apsw, "z")
    expected = euclidean(load_matrix(db.apsw, space))
    before = residents.nbytes
    with own_points(db.apsw, space) as points:
        assert residents.nbytes == before + matrix_bytes(9000, 3)
        np.testing.assert_array_equal(points.ids, expected.ids)
        np.testing.assert_array_equal(points.vectors, expected.vectors)
        assert points.space == expected.space
    assert residents.nbytes == before


def test_a_space_that_does_not_fit_even_once_is_refused(
    db: dbapi.Connection, rows: NDArray[np.float32], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NEARSQL_MEMORY", "100KB")
    with pytest.raises(dbapi.OperationalError, match=r"space 's' needs .* set the environment"):
        db.execute(QUESTION, ("graph",)).fetchall()
