"""`nearsql index`: what is stored is what was built, found as much as it says, or is not there at all."""

import hashlib
import json
import os
import shlex
import signal
import struct
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.index import index, make, store
from nearsql.pipeline.index import recall as recall_module
from nearsql.pipeline.index import vectors as vectors_module
from nearsql.pipeline.index.check import check_indexes
from nearsql.pipeline.index.recall import Effort, choose, draw, recall_of_distances
from nearsql.pipeline.index.vectors import SpaceVectors, read_space
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import connection, dbapi
from nearsql.udfs.search import memory
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]
FAISS_ENGINES = ("hnsw", "ivf")
METRICS = ("cosine", "l2", "ip")


def points(n: int, d: int = 8, seed: int = 0) -> np.ndarray:
    """Points around 20 centres."""
    draw = np.random.default_rng(seed)
    centres = draw.normal(size=(20, d))
    return (centres[draw.integers(0, 20, n)] + 0.5 * draw.normal(size=(n, d))).astype(np.float32)


def rows(db: dbapi.Connection) -> list[dict[str, Any]]:
    cursor = db.execute("select * from vector_indexes order by id")
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


def parts(db: dbapi.Connection, index_id: int) -> dict[int, bytes]:
    found: dict[int, bytes] = {}
    for part, data in db.execute(
        "select part, data from vector_index_chunks where index_id = ? order by part, chunk_number",
        (index_id,),
    ):
        found[part] = found.get(part, b"") + data
    return found


def hash_of(found: dict[int, bytes], kept: Callable[[int], bool]) -> str:
    digest = hashlib.sha256()
    for part in sorted(found):
        if kept(part):
            digest.update(struct.pack("<qq", part, len(found[part])) + found[part])
    return digest.hexdigest()


def brute_force(vectors: np.ndarray, item: int, k: int, metric: str) -> set[int]:
    """The k nearest of the items 1 to n."""
    x = vectors.astype(np.float64)
    q = x[item - 1]
    if metric == "l2":
        distances = ((x - q) ** 2).sum(axis=1)
    elif metric == "ip":
        distances = -(x @ q)
    else:
        distances = 1 - (x @ q) / np.linalg.norm(x, axis=1) / np.linalg.norm(q)
    distances[item - 1] = np.inf
    return set((np.argsort(distances, kind="stable")[:k] + 1).tolist())


def change(db: dbapi.Connection, item: int = 7, d: int = 8) -> None:
    db.execute(
        "update vectors set vector = ? where item_id = ?", (np.ones(d, "<f4").tobytes(), item)
    )
    db.commit()


@pytest.fixture
def small_samples(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(make, "TUNED_ON", 300)
    monkeypatch.setattr(make, "MEASURED_ON", 300)


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


def test_what_changes_while_it_is_built_is_found(
    db: dbapi.Connection,
    database: Path,
    add_space: Fill,
    small_samples: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    vectors = points(900)
    add_space("s", vectors)
    build = make.build

    def meanwhile(*args: Any, **options: Any) -> Any:
        other = connection.connect(database)
        other.execute("delete from vectors where item_id between 1 and 40")
        change(other, item=100)
        other.close()
        return build(*args, **options)

    monkeypatch.setattr(make, "build", meanwhile)
    (result,) = index(db, ["s"], "hnsw", min_recall=0)
    assert result.n == 900
    (finding,) = [f for f in check_indexes(db) if f.check.startswith("changes")]
    assert (finding.checked, finding.wrong) == (41, 0)
    query = "select id, distance from knn('s', ?, 10, null, ?)"
    one = np.ones(8, "<f4").tobytes()
    assert db.execute(query, (one, 0)).fetchone() == (100, 0.0)
    assert not {i for (i, _) in db.execute(query, (vectors[5].tobytes(), 0))} & set(range(1, 41))


@pytest.mark.parametrize("engine", ["hnsw", "ivf", "vec0"])
@pytest.mark.parametrize("error", [KeyboardInterrupt, ValueError])
def test_a_stopped_build_leaves_nothing_and_the_older_index_serves(
    db: dbapi.Connection,
    add_space: Fill,
    small_samples: None,
    monkeypatch: pytest.MonkeyPatch,
    engine: Any,
    error: type[BaseException],
) -> None:
    add_space("s", points(600))
    (older,) = index(db, ["s"], engine)
    change(db)
    before = db.execute("select count(*) from vector_index_chunks").fetchone()

    def stop(*args: Any) -> None:
        raise error("stopped")

    monkeypatch.setattr(store, "make_ready", stop)
    with pytest.raises(error):
        index(db, ["s"], engine)
    status = db.execute("select status from runs order by id desc limit 1").fetchone()[0]
    assert status == ("interrupted" if error is KeyboardInterrupt else "failed")
    if engine == "vec0":  # its one table was being made anew
        assert rows(db) == [] or [row["is_ready"] for row in rows(db)] == [0]
        query = "select count(*) from knn('s', 1, 5)"
    else:
        assert [(row["run_id"], row["is_ready"]) for row in rows(db)] == [(older.run_id, 1)]
        assert db.execute("select count(*) from vector_index_chunks").fetchone() == before
        query = f"select count(*) from knn('s', 1, 5) where engine = '{engine}'"
    assert db.execute(query).fetchone() == (5,)
    monkeypatch.undo()
    (new,) = index(db, ["s"], engine)
    assert [(row["run_id"], row["is_ready"]) for row in rows(db)] == [(new.run_id, 1)]


KILLED = """
import os, signal, sys
from nearsql.pipeline.index import index, store
from nearsql.udfs import connection
write, count = store._write, 0
def then(*args):
    global count
    write(*args)
    count += 1
    if count == {writes}:
        os.kill(os.getpid(), signal.SIGKILL)
store._write = then
store.CHUNK_BYTES = 5000
if {writes} == 0:
    store.make_ready = lambda *args: os.kill(os.getpid(), signal.SIGKILL)
index(connection.open_database(sys.argv[1]), ["s"], sys.argv[2])
"""


@pytest.mark.parametrize(("engine", "writes"), [("hnsw", 2), ("ivf", 3), ("ivf", 0), ("vec0", 0)])
def test_killed_the_older_serves_and_the_next_run_cleans_up(
    db: dbapi.Connection,
    database: Path,
    add_space: Fill,
    small_samples: None,
    engine: Any,
    writes: int,
) -> None:
    add_space("s", points(600))
    index(db, ["s"], engine)
    change(db)
    program = KILLED.format(writes=writes)
    done = subprocess.run([sys.executable, "-c", program, str(database), engine])
    assert done.returncode == -signal.SIGKILL
    ready = [row["is_ready"] for row in rows(db)]
    assert ready == ([0, 0] if engine == "vec0" else [1, 0])
    if engine != "vec0":
        assert len(parts(db, rows(db)[1]["id"])) > 0
        found = db.execute(f"select count(*) from knn('s', 1, 5) where engine = '{engine}'")
        assert found.fetchone() == (5,)
    (new,) = index(db, ["s"], engine)
    assert [(row["id"], row["is_ready"]) for row in rows(db)] == [(new.index_id, 1)]
    chunks = db.execute("select distinct index_id from vector_index_chunks").fetchall()
    assert chunks == ([] if engine == "vec0" else [(new.index_id,)])
    assert db.execute("select status from runs where id = 2").fetchone() == ("interrupted",)
    assert all(finding.wrong == 0 for finding in check_indexes(db))


def test_a_chunked_index_is_read_like_a_whole_one(
    db: dbapi.Connection, add_space: Fill, small_samples: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", points(600))
    index(db, ["s"], "ivf")
    whole = parts(db, rows(db)[0]["id"])
    monkeypatch.setattr(store, "CHUNK_BYTES", 1000)
    index(db, ["s"], "hnsw")
    change(db)
    db.execute("update vectors set vector = ? where item_id = 7", (points(600)[6].tobytes(),))
    db.commit()
    index(db, ["s"], "ivf")
    (row,) = [row for row in rows(db) if row["engine"] == "ivf"]
    sizes = "select max(length(data)), count(*) from vector_index_chunks where index_id = ?"
    largest, count = db.execute(sizes, (row["id"],)).fetchone()
    assert largest <= 1000
    assert count > len(whole)
    assert parts(db, row["id"]) == whole
    assert all(finding.wrong == 0 for finding in check_indexes(db))


def test_two_that_make_the_same_index_do_not_meet(
    db: dbapi.Connection, add_space: Fill, small_samples: None
) -> None:
    add_space("s", points(300))
    db.execute(
        "insert into runs (kind, process) values ('index', ?)", (f"elsewhere {os.getpid()}",)
    )
    db.commit()
    store.begin(db, find_space(db.apsw, "s"), 1, "vec0", 0)
    assert store.remove_leftovers(db) == []
    with pytest.raises(UserError, match=r"run 1 is making the vec0 index of 's': let it end first"):
        index(db, ["s"], "vec0")
    index(db, ["s"], "hnsw")
    db.execute("update runs set status = 'failed', error = 'x', finished_at = 'now' where id = 1")
    db.commit()
    assert store.remove_leftovers(db) == ["the unfinished vec0 index of s (run 1)"]
    assert [row["engine"] for row in rows(db)] == ["hnsw"]


def test_a_space_that_is_deleted_meanwhile(
    db: dbapi.Connection, add_space: Fill, small_samples: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", points(300))
    write = store.write

    def meanwhile(*args: Any) -> Any:
        db.execute("delete from spaces")
        db.commit()
        return write(*args)

    monkeypatch.setattr(store, "write", meanwhile)
    with pytest.raises(UserError, match="the space was deleted while its index was made"):
        index(db, ["s"])
    assert rows(db) == []


def test_small_spaces(db: dbapi.Connection, add_space: Fill, capsys: Any) -> None:
    add_space("none", np.empty((0, 2)))
    add_space("one", np.ones((1, 2)))
    add_space("two", np.eye(2))
    add_space("same", np.ones((30, 3)), metric="cosine")
    add_space("zeros", np.zeros((5, 3)), metric="cosine")
    names = ["none", "one", "two", "same", "zeros"]
    for engine in ("hnsw", "ivf", "vec0"):
        results = index(db, names, engine)
        assert [r.run_id is None for r in results] == [True, True, False, False, False]
        assert [min(r.recall.values()) for r in results[2:]] == [1.0, 1.0, 1.0]
        for name, n in (("two", 2), ("same", 30), ("zeros", 5)):
            query = f"select id from knn(?, 1, 50) where engine = '{engine}'"
            found = [i for (i,) in db.execute(query, (name,))]
            assert found == list(range(2, n + 1))
    assert "skipped none: it has 0 items, and 2 are needed" in capsys.readouterr().err
    assert all(finding.wrong == 0 for finding in check_indexes(db))


@pytest.mark.parametrize(
    ("spaces", "options", "message"),
    [
        ([], {}, "name the spaces to index"),
        (["t"], {}, "there is no space 't'.*the spaces are s"),
        (["s"], {"engine": "annoy"}, "there is no engine 'annoy': it is hnsw, ivf, vec0"),
        (["s"], {"m": 1}, "m must be at least 2, not 1"),
        (["s"], {"ef_construction": 0}, "ef_construction must be at least 1, not 0"),
        (["s"], {"engine": "ivf", "lists": 0}, "lists must be at least 1, not 0"),
        (["s"], {"engine": "ivf", "lists": 41}, "lists must be at most 40, the vectors of 's'"),
        (["s"], {"seed": -1}, "seed must be at least 0"),
        (["s"], {"threads": -1}, "threads must be at least 1"),
        (["s"], {"recall": 1.5}, "recall and min_recall are shares between 0 and 1"),
        (["s"], {"recall": 0.5}, "not recall 0.5 with min_recall 0.95"),
    ],
)
def test_refusals(
    db: dbapi.Connection, add_space: Fill, spaces: list[str], options: Any, message: str
) -> None:
    add_space("s", points(40))
    with pytest.raises((UserError, ValueError), match=message):
        index(db, spaces, **options)
    assert db.execute("select count(*) from runs").fetchone() == (0,)


def test_too_little_memory(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", points(1000))
    monkeypatch.setenv(memory.MEMORY_VARIABLE, "50kB")
    with pytest.raises(UserError, match=r"needs about 0\.\d+ MB of memory, more than the 0.05 MB"):
        index(db, ["s"], "hnsw")
    (result,) = index(db, ["s"], "vec0")
    assert result.recall == {1: 1.0, 10: 1.0, 100: 1.0}


def damage(db: dbapi.Connection, sql: str) -> None:
    db.execute("pragma foreign_keys = off")
    db.execute(sql)
    db.commit()


@pytest.mark.parametrize(
    ("sql", "check", "detail"),
    [
        ("delete from vector_index_chunks where part = 2", "bytes", "part 2 is missing"),
        (
            "delete from vector_index_chunks where part = 5",
            "bytes",
            "bytes is 16416, and 16632 was recorded",
        ),
        (
            "update vector_index_chunks set chunk_number = 1 where part = 0",
            "bytes",
            "part 0 has 1 chunks, not 2",
        ),
        (
            "update vector_index_chunks set data = zeroblob(length(data)) where part = 0",
            "bytes",
            "head_sha256 is",
        ),
        (
            "update vector_index_chunks set data = substr(data, 9) where part = 1",
            "bytes",
            "part 1 has 2,392 bytes, not 8 for each of 300",
        ),
        ("update vector_indexes set bytes = 1", "bytes", "bytes is"),
        (
            "update vector_index_chunks set data = zeroblob(length(data)) where part = 2",
            "items",
            "item 1 is not in the space, or in another row than 0",
        ),
        ("delete from vector_changes", "changes", "the log does not reach back"),
        (
            """update vector_indexes set parameters_json
            = replace(parameters_json, '"effort": ', '"effort": 1, "was": ')""",
            "recall",
            "and knn asks for 0.95",
        ),
    ],
)
def test_check_finds_damage(
    db: dbapi.Connection, add_space: Fill, small_samples: None, sql: str, check: str, detail: str
) -> None:
    add_space("s", points(300))
    index(db, ["s"], "ivf", lists=60)
    if "changes" in sql:
        change(db)
    assert all(finding.wrong == 0 for finding in check_indexes(db) if "changes" not in sql)
    damage(db, sql)
    wrong = {f.check.split()[0]: f.detail or "" for f in check_indexes(db) if f.wrong}
    assert detail in wrong[check]


def run_cli(*words: object) -> Any:
    return CliRunner().invoke(cli, ["index", *map(str, words)])


def test_the_command(
    db: dbapi.Connection, database: Path, add_space: Fill, small_samples: None
) -> None:
    add_space("it's", points(1200))
    made = run_cli(database, "it's", "--seed", 4)
    assert made.exit_code == 0, made.output
    assert "run 1: hnsw index of it's" in made.stderr
    assert "to build" in made.stderr
    (next_line,) = [line for line in made.stderr.splitlines() if "next:" in line]
    _, command = next_line.split("next: ")
    asked = CliRunner().invoke(cli, [*shlex.split(command)[1:], "--csv"])
    assert len(asked.stdout.splitlines()) == 11
    again = run_cli(database, "it's", "--seed", 4)
    assert "nothing to do: run 1 made this hnsw index of it's" in again.stderr
    change(db)
    table = run_cli(database, "--list")
    assert "changed since" in table.stdout
    (line,) = run_cli(database, "--list", "--nl").stdout.splitlines()
    listed = json.loads(line)
    assert listed["space"] == "it's"
    assert (listed["n"], listed["changed"], listed["engine"]) == (1200, 1, "hnsw")
    assert json.loads(run_cli(database, "--list", "--json").stdout) == [listed]
    assert run_cli(database, "--list", "--csv").stdout.splitlines()[0].startswith("space,engine,n")
    assert run_cli(database, "--list", "--format", "nl").stdout == line + "\n"
    checked = run_cli(database, "--check")
    assert checked.exit_code == 0, checked.output
    assert "all 4 checks are as they should be" in checked.stderr
    damage(db, "delete from vector_index_chunks where part = 1")
    wrong = run_cli(database, "--check", "--nl")
    assert wrong.exit_code == 1
    assert json.loads(wrong.stdout.splitlines()[0])["wrong"] > 0
    dropped = run_cli(database, "it's", "--drop")
    assert "removed the hnsw index of it's" in dropped.stderr
    assert rows(db) == []
    assert db.execute("select count(*) from vector_index_chunks").fetchone() == (0,)
    assert "there is no index" in run_cli(database, "--list").stderr


def test_an_index_that_finds_too_little_is_stored_and_refused(
    db: dbapi.Connection,
    database: Path,
    add_space: Fill,
    small_samples: None,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    add_space("s", np.random.default_rng(0).normal(size=(1500, 32)).astype(np.float32))
    monkeypatch.setattr(recall_module, "_MOST_EF", 4)
    monkeypatch.setattr(recall_module, "_MOST_CANDIDATES", 2)
    made = run_cli(database, "s", "--m", 2, "--ef-construction", 1)
    assert made.exit_code == 1
    (said,) = [line for line in made.stderr.splitlines() if "knn refuses it" in line]
    assert "Build it with a larger --m and --ef-construction" in said
    with pytest.raises(dbapi.OperationalError, match=r"less than the 95\.0% that it must"):
        db.execute("select * from knn('s', 1, 10)").fetchall()
    assert len(db.execute("select * from knn('s', 1, 10) where exact = 1").fetchall()) == 10
    lowered = said.split("lower the bar: ")[1].split("; or remove")[0]
    assert (
        CliRunner()
        .invoke(cli, [*shlex.split(lowered)[1:], "--m", "2", "--ef-construction", "1"])
        .exit_code
        == 0
    )
    assert len(rows(db)) == 1
    assert len(db.execute("select * from knn('s', 1, 10)").fetchall()) == 10


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--list", "--check"], "--list, --check and --drop exclude each other"),
        ([], "name the spaces to index"),
        (["--drop"], "there is no such index to drop: the indexes are hnsw of s"),
        (["s", "--drop", "--engine", "ivf"], "the indexes are hnsw of s"),
        (["t", "--list"], "there is no space 't'"),
        (["t", "--check"], "there is no space 't'"),
        (["t", "--drop"], "there is no space 't'"),
        (["one"], "no index was built: see above for the reasons"),
    ],
)
def test_refusals_of_the_command(
    db: dbapi.Connection,
    database: Path,
    add_space: Fill,
    small_samples: None,
    words: list[str],
    message: str,
) -> None:
    add_space("s", points(50))
    add_space("one", np.ones((1, 2)))
    index(db, ["s"])
    done = run_cli(database, *words)
    assert message in str(done.exception)
    assert len(rows(db)) == 1
