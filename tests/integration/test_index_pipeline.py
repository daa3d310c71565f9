"""`nearsql index`: what is stored is what was built, and found as much as it says."""

import json
from collections.abc import Callable

import numpy as np
import pytest
from built_indexes import FAISS_ENGINES, METRICS, brute_force, change, hash_of, parts, points, rows
from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline.index import index
from nearsql.pipeline.index import recall as recall_module
from nearsql.pipeline.index import vectors as vectors_module
from nearsql.pipeline.index.check import check_indexes
from nearsql.pipeline.index.recall import Effort, choose, draw, recall_of_distances
from nearsql.pipeline.index.vectors import SpaceVectors, read_space
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import dbapi
from nearsql.udfs.search import memory
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]


@pytest.mark.parametrize("metric", METRICS)
@pytest.mark.parametrize("engine", FAISS_ENGINES)
def test_what_is_recorded_is_what_is_stored_and_found(
    db: dbapi.Connection, add_space: Fill, engine: str, metric: str, small_samples: None
) -> None:
    vectors = points(1500)
    add_space("s", vectors, metric=metric)
    (result,) = index(db, ["s"], engine, seed=3)
    (row,) = rows(db)
    assert (row["engine"], row["n"], row["seed"], row["is_ready"]) == (engine, 1500, 3, 1)
    pin = db.execute("select generation, generation_token from spaces").fetchone()
    assert (row["generation"], row["generation_token"]) == pin
    found = parts(db, row["id"])
    assert np.frombuffer(found[1], "<i8").tolist() == list(range(1, 1501))
    there = db.execute("select id from vectors order by item_id").fetchall()
    assert np.frombuffer(found[2], "<i8").tolist() == [i for (i,) in there]
    assert row["bytes"] == sum(map(len, found.values()))
    assert row["sha256"] == hash_of(found, lambda part: part != 2)
    assert row["head_sha256"] == hash_of(found, lambda part: part < 2)
    run = db.execute(
        "select kind, status, result_sha256, seed, parameters_json from runs"
    ).fetchone()
    assert run[:4] == ("index", "finished", row["sha256"], 3)
    assert json.loads(run[4])["engine"] == engine
    assert db.execute("select kind, name, generation, rows from run_inputs").fetchall() == [
        ("space", "s", pin[0], 1500)
    ]
    assert set(json.loads(row["recall_json"])) == {"1", "10", "100"}
    assert min(result.recall.values()) > 0.95
    # What knn then finds, by brute force.
    share = []
    for item in range(1, 1500, 10):
        ids = {i for (i,) in db.execute("select id from knn('s', ?, 10)", (item,))}
        share.append(len(ids & brute_force(vectors, item, 10, metric)) / 10)
    assert abs(np.mean(share) - result.recall[10]) < 0.03
    assert all(finding.wrong == 0 for finding in check_indexes(db))


@pytest.mark.parametrize("engine", FAISS_ENGINES)
def test_the_same_bytes_by_one_thread_by_two_and_from_the_file(
    db: dbapi.Connection,
    add_space: Fill,
    engine: str,
    small_samples: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_space("s", points(1100, 48))
    (one,) = index(db, ["s"], engine, threads=1)
    first = parts(db, one.index_id or 0)
    hashes = [rows(db)[0]["sha256"]]
    assert [result.is_new for result in index(db, ["s"], engine, threads=2)] == [False]
    for threads, allowed in ((2, "1GB"), (2, "245kB")):
        index(db, ["s"], engine, recall=0.5, min_recall=0.5)  # another one in its place
        monkeypatch.setenv(memory.MEMORY_VARIABLE, allowed)
        monkeypatch.setattr(vectors_module, "resident_matrix", lambda db, space: None)
        space = find_space(db.apsw, "s")
        fits = read_space(db.apsw, space, 1100 * 200).matrix is not None
        assert fits == (allowed == "1GB")
        (again,) = index(db, ["s"], engine, threads=threads)
        assert again.is_new
        assert parts(db, again.index_id or 0) == first
        assert again.recall == one.recall
        hashes.append(rows(db)[0]["sha256"])
    assert len(set(hashes)) == 1
    (other,) = index(db, ["s"], engine, seed=1)
    assert rows(db)[0]["sha256"] != hashes[0]
    assert other.is_new


@given(data=st.data(), k=st.sampled_from([1, 2, 3, 10]))
def test_recall_counts_what_is_as_near_as_the_true_neighbours(data: st.DataObject, k: int) -> None:
    """Against a loop: of the k found, those no farther than the k-th true neighbour; ties count."""
    near = st.lists(st.integers(0, 4).map(float), max_size=6)
    truths = data.draw(st.lists(near.map(sorted), min_size=1, max_size=4))
    finds = [data.draw(st.lists(st.sampled_from([*t, 5.0, 9.0]), max_size=8)) for t in truths]
    expected = []
    for truth, find in zip(truths, finds, strict=True):
        wanted = truth[:k]
        hits = [x for x in find if wanted and x <= wanted[-1]]
        expected.append(min(len(hits), len(wanted)) / len(wanted) if wanted else 1.0)

    def padded(lists: list[list[float]]) -> np.ndarray:
        return np.array([[*one, *[np.inf] * (10 - len(one))] for one in lists])

    assert recall_of_distances(padded(finds), padded(truths), k).tolist() == expected


def as_vectors(db: dbapi.Connection, name: str) -> SpaceVectors:
    return read_space(db.apsw, find_space(db.apsw, name), 0)


class Tunable:
    """Finds all with enough effort, else three quarters; the true ones are each so many places apart."""

    def __init__(self, vectors: SpaceVectors, needs_effort: int, needs_candidates: int) -> None:
        self.vectors = vectors
        self.needs_effort, self.needs_candidates = needs_effort, needs_candidates
        self.asked: list[tuple[int, int]] = []

    def __call__(self, queries: np.ndarray, c: int, effort: int) -> np.ndarray:
        self.asked.append((c, effort))
        x = next(iter(self.vectors.blocks()))
        order = np.argsort(((x[None] - queries[:, None]) ** 2).sum(axis=2), axis=1, kind="stable")
        if effort < self.needs_effort:  # a quarter of the true ones is not seen
            order[:, 1::4] = -1
        # Others stand before them, as where codes are too coarse to tell.
        found = np.full((len(queries), order.shape[1] * self.needs_candidates), -1)
        found[:, :: self.needs_candidates] = order
        return found[:, :c]


@pytest.mark.parametrize(
    ("needs_effort", "needs_candidates", "k", "expected"),
    [
        (1, 2, 10, Effort(20, 2)),
        (40, 2, 10, Effort(45, 2)),
        (20, 8, 10, Effort(20, 8)),
        (1, 1, 1, Effort(16, 8)),
        (1, 1, 100, Effort(200, 2)),
        (10**9, 2, 10, Effort(300, 32)),  # never: as hard as can be
    ],
)
def test_effort_and_candidates_grow_until_enough_is_found(
    db: dbapi.Connection,
    add_space: Fill,
    needs_effort: int,
    needs_candidates: int,
    k: int,
    expected: Effort,
) -> None:
    add_space("s", points(300))
    vectors = as_vectors(db, "s")
    (sample,) = draw(vectors, (300,), 0, lambda n: None)
    index_like = Tunable(vectors, needs_effort, needs_candidates)
    chosen = choose(vectors, index_like, sample, k, 1, None, 0.95)
    assert chosen == expected
    found = recall_module.recalls(vectors, index_like, sample, k, chosen).mean()
    assert (found >= 0.95) == (needs_effort < 10**9)
    assert max(c for c, _ in index_like.asked) <= 300


def test_samples_are_apart_and_the_whole_space_when_that_is_small(
    db: dbapi.Connection, add_space: Fill
) -> None:
    add_space("s", points(200))
    vectors = as_vectors(db, "s")
    one, two = draw(vectors, (50, 100), 5, lambda n: None)
    assert (len(one.places), len(two.places)) == (50, 100)
    assert not set(one.places) & set(two.places)
    again, _ = draw(vectors, (50, 100), 5, lambda n: None)
    assert again.places.tolist() == one.places.tolist()
    assert draw(vectors, (50, 100), 6, lambda n: None)[0].places.tolist() != one.places.tolist()
    one, two = draw(vectors, (150, 100), 5, lambda n: None)
    assert one.places.tolist() == two.places.tolist() == list(range(200))
    x = points(200).astype(np.float64)
    exact = np.sort(np.sqrt(((x[None] - x[:, None]) ** 2).sum(axis=2)), axis=1)[:, 1:101]
    np.testing.assert_allclose(one.distances, exact, atol=1e-6)


def test_nothing_to_do_a_moved_bar_and_a_replaced_index(
    db: dbapi.Connection, add_space: Fill, small_samples: None
) -> None:
    add_space("s", points(800))
    (first,) = index(db, ["s"])
    assert (first.engine, first.is_new) == ("hnsw", True)
    (again,) = index(db, ["s", "s"], min_recall=0.5)
    assert (again.is_new, again.run_id, again.recall) == (False, first.run_id, first.recall)
    assert again.search == first.search
    assert rows(db)[0]["min_recall"] == 0.5
    index(db, ["s"], "ivf")
    assert [row["engine"] for row in rows(db)] == ["hnsw", "ivf"]
    change(db)
    (new,) = index(db, ["s"], "hnsw")
    assert new.is_new
    assert [(row["engine"], row["run_id"]) for row in rows(db)] == [
        ("ivf", 2),
        ("hnsw", new.run_id),
    ]
    chunks = "select distinct index_id from vector_index_chunks order by 1"
    assert db.execute(chunks).fetchall() == [(row["id"],) for row in rows(db)]
    for written in (
        "'{}'",
        "'[]'",
        """'{"search": {"a": 1}}'""",
        """'{"search": {"1": {"x": 1}}}'""",
    ):
        db.execute(f"update vector_indexes set parameters_json = {written}")
        db.commit()
        assert index(db, ["s"], "hnsw")[0].is_new, written
    for other in ({"m": 8}, {"ef_construction": 40}, {"recall": 0.96}, {"seed": 9}):
        (made,) = index(db, ["s"], "hnsw", **other)
        assert made.is_new, other


def test_replay_and_what_keeps_it_from_it(
    db: dbapi.Connection, add_space: Fill, small_samples: None
) -> None:
    add_space("s", points(700))
    results = [index(db, ["s"], engine, seed=2)[0] for engine in ("hnsw", "ivf", "vec0")]
    db.execute("update spaces set name = 'renamed'")
    db.commit()
    for result in results:
        assert replay(db, result.run_id or 0).is_same
    change(db)
    with pytest.raises(CannotReplay, match="its vectors have changed"):
        replay(db, results[0].run_id or 0)
