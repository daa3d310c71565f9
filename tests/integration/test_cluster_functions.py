"""hdbscan, cluster_assign and cluster_assignments as SQL."""

import gc
import warnings
import weakref
from collections.abc import Callable

import hdbscan
import numpy as np
import pytest
from numpy.typing import NDArray
from sklearn.datasets import load_digits
from sklearn.preprocessing import normalize

from benchmarks.clustering.stable_sort import stable_sort
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.udfs import dbapi
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]


def library(rows: NDArray[np.float32], **parameters: object) -> hdbscan.HDBSCAN:
    with warnings.catch_warnings(), stable_sort():
        warnings.simplefilter("ignore")  # scikit-learn's renamings
        return hdbscan.HDBSCAN(algorithm="prims_kdtree", **parameters).fit(rows.astype(np.float64))


@pytest.fixture
def digits(add_space: Fill) -> NDArray[np.float32]:
    rows = load_digits().data[:600].astype(np.float32)
    add_space("digits", rows)
    return rows


def test_hdbscan_is_the_librarys(db: dbapi.Connection, digits: NDArray[np.float32]) -> None:
    expected = library(digits, min_cluster_size=10, min_samples=4)
    rows = db.execute("select * from hdbscan('digits', 10, 4) order by id").fetchall()
    assert [row[0] for row in rows] == list(range(1, 601))
    assert [-1 if row[1] is None else row[1] for row in rows] == expected.labels_.tolist()
    assert [row[2] for row in rows] == expected.probabilities_.tolist()
    assert [row[3] for row in rows] == expected.outlier_scores_.tolist()
    apart = np.linalg.norm(digits[0].astype(float) - digits.astype(float), axis=1)
    assert rows[0][4] == pytest.approx(np.sort(apart)[4])
    assert {row[5] is None for row in rows if row[1] is None} == {True}
    assert all((row[5] is None) == (row[6] is None) for row in rows)
    assert all(row[5] < row[6] for row in rows if row[1] is not None)
    assert {row[5] is None for row in rows if row[1] is not None} == {False}


def test_columns_defaults_and_named_arguments(
    db: dbapi.Connection, digits: NDArray[np.float32]
) -> None:
    cursor = db.execute("select * from hdbscan('digits')")
    names = [column[0] for column in cursor.description or ()]
    assert names == [
        "id",
        "cluster",
        "probability",
        "outlier_score",
        "core_distance",
        "birth_lambda",
        "max_lambda",
    ]
    defaults = cursor.fetchall()
    assert defaults == db.execute("select * from hdbscan('digits', 5, 5)").fetchall()
    leaf = db.execute(
        "select cluster from hdbscan('digits', 5) where selection = 'leaf'"
    ).fetchall()
    expected = library(digits, min_cluster_size=5, cluster_selection_method="leaf")
    assert [-1 if c is None else c for (c,) in leaf] == expected.labels_.tolist()


def test_cosine_is_euclidean_on_unit_vectors(db: dbapi.Connection, add_space: Fill) -> None:
    rows = load_digits().data[:400].astype(np.float32)
    add_space("unit", rows, metric="cosine")
    expected = library(normalize(rows.astype(np.float64)).astype(np.float32), min_cluster_size=8)
    found = db.execute(
        "select cluster, core_distance from hdbscan('unit', 8) order by id"
    ).fetchall()
    assert [-1 if c is None else c for c, _ in found] == expected.labels_.tolist()
    # The core distance is a chord: sqrt(2 * cosine distance) of the 8th neighbour.
    (cosine,) = db.execute("select distance from knn('unit', 1, 8) where rank = 8").fetchone()
    assert found[0][1] == pytest.approx(np.sqrt(2 * cosine), rel=1e-5)


def test_downsample_and_within_choose_the_items(
    db: dbapi.Connection, digits: NDArray[np.float32]
) -> None:
    sampled = db.execute(
        "select id, cluster from hdbscan('digits', 5) where downsample = 3"
    ).fetchall()
    assert [item for item, _ in sampled] == list(range(1, 601, 3))  # sequence numbers are from 0
    expected = library(digits[::3], min_cluster_size=5)
    assert [-1 if c is None else c for _, c in sampled] == expected.labels_.tolist()
    both = db.execute(
        "select id from hdbscan('digits', 5, 5, 3, 'select id from items where id <= 100')"
    ).fetchall()
    assert [item for (item,) in both] == list(range(1, 101, 3))


def test_few_items_are_noise(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("few", np.eye(4, 3))
    assert db.execute("select id, cluster, probability from hdbscan('few')").fetchall() == [
        (item, None, 0.0) for item in (1, 2, 3, 4)
    ]
    assert db.execute("select * from hdbscan('few', 5, 5, 1, '[2]')").fetchall() == [
        (2, None, 0.0, None, None, None, None)
    ]
    assert db.execute("select * from hdbscan('few', 5, 5, 1, '[]')").fetchall() == []


def test_duplicates_and_a_constant_space(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("same", np.ones((30, 4)))
    add_space("pairs", np.repeat([[0.0, 0.0], [9.0, 9.0]], 6, axis=0))
    expected = library(np.ones((30, 4), np.float32), min_cluster_size=5).labels_
    rows = db.execute("select cluster, core_distance from hdbscan('same') order by id").fetchall()
    assert [-1 if cluster is None else cluster for cluster, _ in rows] == expected.tolist()
    assert {core for _, core in rows} == {0.0}
    groups = db.execute(
        "select cluster, count(*), min(probability), min(birth_lambda), max(core_distance)"
        " from hdbscan('pairs') group by cluster"
    ).fetchall()
    assert groups == [
        (0, 6, 1.0, pytest.approx(1 / np.hypot(9, 9)), 0.0),
        (1, 6, 1.0, pytest.approx(1 / np.hypot(9, 9)), 0.0),
    ]


@pytest.mark.parametrize(
    ("sql", "sentence"),
    [
        ("select * from hdbscan('nope')", "there is no space 'nope': the spaces are digits"),
        (
            "select * from hdbscan('digits', 1)",
            "min_cluster_size must be a whole number of at least 2",
        ),
        (
            "select * from hdbscan('digits', 5, 0)",
            "min_samples must be a whole number of at least 1",
        ),
        (
            "select * from hdbscan('digits', 5, 5, 0)",
            "downsample must be a whole number of at least 1",
        ),
        (
            "select * from hdbscan('digits', 5, 5, 1, null, 'best')",
            "selection must be one of eom, leaf, not 'best'",
        ),
        (
            "select * from hdbscan('digits', 5, 5, 1, null, 'eom', -1)",
            "epsilon must be at least 0.0, not -1",
        ),
    ],
)
def test_wrong_arguments_are_sentences(
    db: dbapi.Connection, digits: NDArray[np.float32], sql: str, sentence: str
) -> None:
    with pytest.raises(dbapi.OperationalError, match=r"^hdbscan: ") as caught:
        db.execute(sql).fetchall()
    assert sentence in str(caught.value)


def test_inner_products_are_refused(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("ip", np.eye(9), metric="ip")
    with pytest.raises(dbapi.OperationalError, match="inner products are not distances"):
        db.execute("select * from hdbscan('ip')").fetchall()


def test_a_time_limit_stops_it(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("big", np.random.default_rng(0).normal(size=(4000, 48)))
    db.set_progress_handler(lambda: 1, 1000)
    with pytest.raises(dbapi.OperationalError, match="interrupted"):
        db.execute("select count(*) from hdbscan('big')").fetchall()


@pytest.fixture
def run(db: dbapi.Connection, digits: NDArray[np.float32]) -> int:
    """A clustering of every second digit."""
    (result,) = cluster_spaces(db, ["digits"], min_cluster_size=8, min_samples=3, downsample=2)
    assert result.run_id is not None
    assert result.counts["clusters"] >= 5
    return result.run_id


def test_assign_agrees_with_assignments(db: dbapi.Connection, run: int) -> None:
    many = db.execute("select id, cluster, distance from cluster_assignments(?)", (run,)).fetchall()
    assert [item for item, _, _ in many] == list(range(2, 601, 2))
    assert {cluster is None for _, cluster, _ in many} == {True, False}
    one_by_one = db.execute(
        "select item_id, cluster_assign(?, vector) from vectors where item_id % 2 = 0 order by item_id",
        (run,),
    ).fetchall()
    assert one_by_one == [(item, cluster) for item, cluster, _ in many]
    some = db.execute("select id from cluster_assignments(?, '[2, 3, 4]')", (run,)).fetchall()
    assert some == [(2,), (4,)]
    assert db.execute("select cluster_assign(?, null)", (run,)).fetchone() == (None,)


def test_assignments_say_how_surely(db: dbapi.Connection, run: int) -> None:
    lambdas = dict(
        db.execute("select label, max_lambda from clusters where run_id = ?", (run,)).fetchall()
    )
    ask = "select cluster, distance, probability from cluster_assignments(?)"
    rows = db.execute(ask, (run,)).fetchall()
    for cluster, distance, probability in rows:
        if cluster is None:
            assert probability == 0
        else:
            assert probability == min(1 / distance, lambdas[cluster]) / lambdas[cluster]
    sure = [probability for cluster, _, probability in rows if cluster is not None]
    assert max(sure) == 1
    assert min(sure) > 0
    assert len(set(sure)) > 50


def test_assignments_say_which_member_an_item_hangs_on(
    db: dbapi.Connection, digits: NDArray[np.float32], run: int
) -> None:
    core = dict(
        db.execute("select item_id, core_distance from memberships where run_id = ?", (run,))
    )
    members = np.array(sorted(core))
    apart = np.sqrt(((digits[members - 1][None] - digits[:, None]) ** 2).sum(axis=2))
    own_core = np.sort(apart, axis=1)[:, 2]
    reach = np.maximum(np.maximum(apart, own_core[:, None]), [core[m] for m in members.tolist()])
    rows = db.execute("select id, distance, member from cluster_assignments(?)", (run,)).fetchall()
    assert len(rows) == 300
    for item, distance, member in rows:
        assert distance == pytest.approx(reach[item - 1].min(), rel=1e-6)
        at = np.flatnonzero(members == member)[0]
        assert reach[item - 1, at] == pytest.approx(reach[item - 1].min(), rel=1e-6)


def test_the_members_of_a_cluster_would_join_it_again(db: dbapi.Connection, run: int) -> None:
    same, all_ = db.execute(
        "select sum(cluster_assign(?1, v.vector) = c.label), count(*)"
        " from memberships m join clusters c on c.id = m.cluster_id"
        " join vectors v on v.item_id = m.item_id where m.run_id = ?1",
        (run,),
    ).fetchone()
    assert same >= 0.99 * all_


def test_assign_goes_on_when_other_items_come(
    db: dbapi.Connection, add_space: Fill, run: int
) -> None:
    before = db.execute("select cluster_assign(?, vector_of('digits', 2))", (run,)).fetchone()
    db.execute(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (9999, 'text', 'tests', ?, 'new', 9999)",
        ("f" * 64,),
    )
    db.execute(
        "insert into vectors (space_id, item_id, vector)"
        " select space_id, 9999, vector from vectors where item_id = 2"
    )
    db.execute("delete from vectors where item_id = 4")
    after = db.execute("select cluster_assign(?, vector_of('digits', 9999))", (run,)).fetchone()
    assert after == before
    items = db.execute("select id from cluster_assignments(?) where id in (4, 9999)", (run,))
    assert items.fetchall() == [(9999,)]


def test_assign_refuses_members_that_changed_or_went(db: dbapi.Connection, run: int) -> None:
    db.execute("savepoint before")
    db.execute("update vectors set vector = zeroblob(256) where item_id = 3")
    with pytest.raises(dbapi.OperationalError, match="the vector of item 3, a member of run"):
        db.execute("select cluster_assign(?, zeroblob(256))", (run,)).fetchall()
    db.execute("rollback to before")
    db.execute("select cluster_assign(?, zeroblob(256))", (run,)).fetchall()
    db.execute("delete from vectors where item_id = 3")
    with pytest.raises(dbapi.OperationalError, match=r"item 3, a member of run .* has no vector"):
        db.execute("select cluster_assign(?, zeroblob(256))", (run,)).fetchall()


def test_assign_refuses_other_runs(db: dbapi.Connection, run: int) -> None:
    def error(sql: str) -> str:
        with pytest.raises(dbapi.OperationalError) as caught:
            db.execute(sql).fetchall()
        return str(caught.value)

    assert f"there is no run 77: clustering runs have numbers, the newest are {run}" in error(
        "select cluster_assign(77, zeroblob(256))"
    )
    db.execute(
        "insert into runs (id, kind, status, finished_at) values (50, 'embed', 'finished', 'now'),"
        " (51, 'cluster', 'interrupted', 'now')"
    )
    assert "run 50 is of kind 'embed', not 'cluster'" in error(
        "select cluster_assign(50, zeroblob(256))"
    )
    assert "run 51 is interrupted" in error("select * from cluster_assignments(51)")
    assert "vector has 2 dimensions, not 64" in error(f"select cluster_assign({run}, '[1, 2]')")
    assert "run must be a whole number" in error("select cluster_assign('a', '[1, 2]')")


def test_a_model_does_not_keep_its_matrix_in_memory(
    db: dbapi.Connection, add_space: Fill, digits: NDArray[np.float32]
) -> None:
    (result,) = cluster_spaces(db, ["digits"], min_cluster_size=8)
    db.execute("select cluster_assign(?, vector_of('digits', 1))", (result.run_id,)).fetchall()
    kept = weakref.ref(load_matrix(db.apsw, find_space(db.apsw, "digits")))
    db.execute("delete from vectors where item_id = 600")
    db.execute("select count(*) from knn('digits', 1, 5)").fetchall()  # reads the space anew
    gc.collect()
    assert kept() is None
