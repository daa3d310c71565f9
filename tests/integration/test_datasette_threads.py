"""Eight clients search one file through Datasette while others write to it: every answer is right.

Each statement reads the space's generation beside its neighbours. The writers note what they changed at
which generation, so that an answer can be compared with brute force over just what it had to see.
"""

import asyncio
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import faiss
import numpy as np
import pytest
from served import Site, query_path, site

from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection
from nearsql.udfs.search import workers

CLIENTS = 8
ITEMS, DIMENSIONS, K = 120, 6, 4
ROUNDS = 6

# What the space holds: for each item its vector.
State = dict[int, np.ndarray]
# What was changed at a generation: an item, and its vector or None once deleted.
Changes = dict[int, tuple[int, np.ndarray | None]]

KNN = "select k.id, k.distance, s.generation from spaces s, knn('s', '{}', {}) k where s.name = 's'"
BATCH = (
    "select b.query, b.id, b.distance, s.generation"
    " from spaces s, knn_batch('s', '{}', {}) b where s.name = 's'"
)
GRAPH = (
    "select g.id, g.neighbor_id, g.distance, s.generation"
    " from spaces s, knn_graph('s', {}) g where s.name = 's'"
)


@pytest.fixture
def path(tmp_path: Path) -> Path:
    path = tmp_path / "shared.db"
    vectors = np.random.default_rng(0).standard_normal((ITEMS, DIMENSIONS)).astype(np.float32)
    db = connection.create(path)
    with db:
        db.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'c', ?, 'x', ?)",
            ((i, f"{i:064x}", i) for i in range(1, ITEMS + 1)),
        )
        db.execute(
            "insert into spaces (id, name, kind, dimensions, metric)"
            " values (1, 's', 'embedding', ?, 'l2')",
            (DIMENSIONS,),
        )
        insert_vectors(db, 1, None, [(i, v.tobytes()) for i, v in enumerate(vectors, 1)])
    db.close()
    return path


@pytest.fixture
def served_by_eight(path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """Datasette with eight threads, each of whose searches takes to several threads as large ones do."""
    monkeypatch.setattr(workers, "MANY_NUMBERS", 0)
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: 2)
    settings = {"num_sql_threads": CLIENTS, "sql_time_limit_ms": 60_000}
    with site(path, settings=settings) as opened:
        yield opened


def read(path: Path) -> tuple[int, State]:
    """(generation, vectors) of the space."""
    db = connection.connect(path)
    ((generation,),) = db.execute("select generation from spaces").fetchall()
    rows = db.execute("select item_id, vector from vectors").fetchall()
    db.close()
    return generation, {item: np.frombuffer(blob, "<f4") for item, blob in rows}


def write(path: Path, seed: int, changes: Changes, is_over: threading.Event) -> None:
    """One writer: single changes, each a transaction, until it is over. Some are rolled back."""
    rng = np.random.default_rng(seed)
    db = connection.connect(path)
    while not is_over.is_set():
        vector = rng.standard_normal(DIMENSIONS).astype(np.float32)
        item = int(rng.integers(1, ITEMS + 1))
        db.execute("begin immediate")
        is_there = db.execute("select 1 from vectors where item_id = ?", (item,)).fetchone()
        is_deleted = is_there and rng.random() < 0.3
        if is_deleted:
            db.execute("delete from vectors where item_id = ?", (item,))
        elif is_there:
            db.execute("update vectors set vector = ? where item_id = ?", (vector.tobytes(), item))
        else:
            insert_vectors(db, 1, None, [(item, vector.tobytes())])
        if rng.random() < 0.2:
            db.rollback()
            continue
        ((generation,),) = db.execute("select generation from spaces").fetchall()
        assert generation not in changes
        changes[generation] = (item, None if is_deleted else vector)
        db.commit()
        is_over.wait(0.002)
    db.close()


def nearest(state: State, query: np.ndarray, own: int | None) -> list[tuple[int, float]]:
    """Brute force: the K nearest by (distance, id)."""
    found = []
    for item, vector in state.items():
        if item != own:
            difference = vector.astype(np.float64) - query.astype(np.float64)
            found.append((float(np.sqrt((difference * difference).sum())), item))
    return [(item, distance) for distance, item in sorted(found)[:K]]


async def client(served: Site, number: int, answers: list[tuple[Any, ...]]) -> None:
    """Asks in turn by knn, knn_batch and knn_graph, waiting for each answer."""
    rng = np.random.default_rng(100 + number)
    page = query_path("shared", "json", is_first_line=served.is_first_line)
    for turn in range(ROUNDS):
        queries = rng.standard_normal((5, DIMENSIONS)).astype(np.float32)
        if (turn + number) % 3 == 0:
            sql = KNN.format(queries[:1].tolist()[0], K)
        elif (turn + number) % 3 == 1:
            sql = BATCH.format(queries.tolist(), K)
        else:
            sql = GRAPH.format(K)
        parameters = urlencode({"sql": sql, "_shape": "arrays"})
        response = await served.datasette.client.get(f"{page}?{parameters}")
        assert response.status_code == 200, response.text
        rows = response.json()["rows"]
        if sql.startswith("select k"):
            rows = [[1, *row] for row in rows]
        answers.append((sql, queries, rows))


async def ask_all(served: Site, answers: list[tuple[Any, ...]]) -> None:
    await asyncio.gather(*(client(served, i, answers) for i in range(CLIENTS)))


def test_eight_clients_and_two_writers(path: Path, served_by_eight: Site) -> None:
    first, state = read(path)
    changes: Changes = {}
    answers: list[tuple[Any, ...]] = []
    is_over = threading.Event()
    writers = [
        threading.Thread(target=write, args=(path, seed, changes, is_over)) for seed in (1, 2)
    ]
    for writer in writers:
        writer.start()
    try:
        served_by_eight.runner.run(ask_all(served_by_eight, answers))
    finally:
        is_over.set()
        for writer in writers:
            writer.join()

    last, at_last = read(path)
    assert max(changes) == last
    states = {first: state}
    for generation, (item, vector) in sorted(changes.items()):
        state = {i: v for i, v in state.items() if i != item}
        if vector is not None:
            state[item] = vector
        states[generation] = state
    assert state.keys() == at_last.keys()

    assert len(answers) == CLIENTS * ROUNDS
    seen = set()
    for sql, queries, rows in answers:
        (generation,) = {row[-1] for row in rows}
        seen.add(generation)
        then = states[generation]
        wanted: list[tuple[int, int, float]] = []
        if "knn_graph" in sql:
            for item in sorted(then):
                wanted += [(item, *found) for found in nearest(then, then[item], item)]
        else:
            asked = queries if "knn_batch" in sql else queries[:1]
            for number, query in enumerate(asked, 1):
                wanted += [(number, *found) for found in nearest(then, query, None)]
        assert [tuple(row[:-1]) for row in rows] == wanted
    assert len(seen) > 3  # they did write meanwhile
