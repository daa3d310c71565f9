"""One matrix in memory for all: never stale, never read twice, bounded."""

import gc
import sqlite3
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import apsw
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import nearsql
from nearsql.udfs import connection, dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search import matrix as module
from nearsql.udfs.search import memory, stored_vectors
from nearsql.udfs.search.matrix import Matrix, load_matrix
from nearsql.udfs.spaces import Space, find_space

Fill = Callable[..., int]


def load(db: dbapi.Connection, name: str = "s") -> Matrix:
    return load_matrix(db.apsw, find_space(db.apsw, name))


def stored(db: dbapi.Connection, name: str = "s") -> tuple[list[int], list[list[float]]]:
    """What the table holds, read plainly."""
    rows = db.execute(
        "select item_id, vector from vectors where space_id = (select id from spaces where name = ?)"
        " order by item_id",
        (name,),
    ).fetchall()
    return [r[0] for r in rows], [np.frombuffer(r[1], "<f4").tolist() for r in rows]


def assert_as_stored(db: dbapi.Connection, name: str = "s") -> Matrix:
    matrix = load(db, name)
    ids, vectors = stored(db, name)
    assert matrix.ids.tolist() == ids
    assert matrix.vectors.tolist() == vectors
    assert matrix.vectors.dtype == np.float32
    assert matrix.vectors.flags.c_contiguous
    exact = matrix.vectors.astype(np.float64)
    assert matrix.squared_norms.tolist() == (exact * exact).sum(axis=1).tolist()
    return matrix


def vectors_of(n: int, d: int = 3, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, d)).astype(np.float32)


def test_it_is_read_once_for_all_connections(
    db: dbapi.Connection, database: Path, add_space: Fill, reads: list[int]
) -> None:
    add_space("s", vectors_of(20))
    other = nearsql.connect(database)
    assert load(db) is load(other) is load(db)
    assert reads == [20]
    other.close()


def test_threads_wait_for_each_other(
    db: dbapi.Connection, database: Path, add_space: Fill, reads: list[int]
) -> None:
    add_space("s", vectors_of(50))
    found: list[Matrix] = []
    start = threading.Barrier(8)

    def search() -> None:
        own = nearsql.connect(database)
        start.wait()
        found.append(load(own))
        own.close()

    threads = [threading.Thread(target=search) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert reads == [50]
    assert len({id(matrix) for matrix in found}) == 1
    assert len(found) == 8


def test_a_few_changes_are_patched(db: dbapi.Connection, add_space: Fill, reads: list[int]) -> None:
    add_space("s", vectors_of(40), first_item=2)
    before = assert_as_stored(db)
    copy = before.vectors.copy()
    db.execute("delete from vectors where item_id = 7")
    db.execute("update vectors set vector = vector('[1, 2, 3]') where item_id = 30")
    db.execute("insert into vectors (space_id, item_id, vector) values (1, 7, vector('[4, 5, 6]'))")
    db.execute("delete from vectors where item_id in (2, 41)")
    after = assert_as_stored(db)
    assert reads == [40, 2]  # items 7 and 30
    assert len(after.ids) == 38
    assert (before.vectors == copy).all()  # whoever was searching it still has it
    db.rollback()
    assert_as_stored(db)


@settings(max_examples=40, deadline=None)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(
                ["insert", "update", "delete", "replace", "rollback", "commit", "load"]
            ),
            st.integers(1, 30),
        ),
        max_size=25,
    )
)
def test_it_is_never_stale(changes: list[tuple[str, int]]) -> None:
    """Whatever happens to the table, the matrix is what the table holds."""
    db = connection.create(":memory:")
    db.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('s', 'metric', 2, 'l2')"
    )
    for item in range(1, 31):
        db.execute(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?, 'text', 'tests', ?, 'x', 0)",
            (item, f"{item:064x}"),
        )
    insert = "into vectors (space_id, item_id, vector) values (1, ?, ?)"
    db.executemany(
        f"insert {insert}", [(i, np.array([i, 0], "<f4").tobytes()) for i in range(5, 25)]
    )
    db.commit()
    assert_as_stored(db)
    for step, (change, item) in enumerate(changes):
        vector = np.array([item, step], "<f4").tobytes()
        if change in ("insert", "replace"):
            verb = "insert or ignore" if change == "insert" else "replace"
            db.execute(f"{verb} {insert}", (item, vector))
        elif change == "update":
            db.execute("update vectors set vector = ? where item_id = ?", (vector, item))
        elif change == "delete":
            db.execute("delete from vectors where item_id between ? and ?", (item, item + 2))
        elif change == "load":
            assert_as_stored(db)
        else:
            getattr(db, change)()
    assert_as_stored(db)
    db.rollback()
    assert_as_stored(db)
    db.close()


def test_an_older_snapshot_keeps_its_vectors(
    db: dbapi.Connection, database: Path, add_space: Fill
) -> None:
    add_space("s", vectors_of(10))
    reader = nearsql.connect(database)
    reader.execute("begin")
    assert len(load(reader).ids) == 10
    db.execute("delete from vectors where item_id > 4")
    db.commit()
    assert len(assert_as_stored(db).ids) == 4
    assert len(assert_as_stored(reader).ids) == 10
    reader.rollback()
    assert len(assert_as_stored(reader).ids) == 4
    reader.close()


def test_a_writer_between_find_and_load(db: dbapi.Connection, add_space: Fill) -> None:
    """Outside any statement the load takes its own snapshot, and says which generation it is of."""
    add_space("s", vectors_of(10))
    space = find_space(db.apsw, "s")
    db.execute("delete from vectors where item_id = 1")
    matrix = load_matrix(db.apsw, space)
    assert len(matrix.ids) == 9
    assert matrix.space == find_space(db.apsw, "s")


def test_a_renamed_space_and_a_deleted_one(
    db: dbapi.Connection, add_space: Fill, reads: list[int]
) -> None:
    add_space("s", vectors_of(10))
    load(db)
    db.execute("update spaces set name = 't'")
    assert load(db, "t").space.name == "t"
    assert sum(reads) == 10
    space = find_space(db.apsw, "t")
    db.execute("delete from spaces")
    with pytest.raises(SqlFunctionError, match="space 't' was deleted"):
        load_matrix(db.apsw, replace(space, generation=99))


def test_a_file_replaced_by_another_is_read_anew(tmp_path: Path) -> None:
    for number in range(2):
        path = tmp_path / "same name.db"
        path.unlink(missing_ok=True)
        db = connection.create(path)
        db.execute("pragma journal_mode = delete")
        db.execute(
            "insert into spaces (name, kind, dimensions, metric) values ('s','metric',1,'l2')"
        )
        db.execute(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (1, 'text', 'tests', ?, 'x', 0)",
            ("0" * 64,),
        )
        db.execute(
            "insert into vectors (space_id, item_id, vector) values (1, 1, ?)",
            (np.array([number], "<f4").tobytes(),),
        )
        db.commit()
        assert_as_stored(db)
        db.close()


def test_in_memory_databases_are_apart_and_let_go() -> None:
    def opened() -> Iterator[dbapi.Connection]:
        for size in (3, 5):
            db = connection.create(":memory:")
            db.execute(
                "insert into spaces (name, kind, dimensions, metric) values ('s','metric',1,'l2')"
            )
            for item in range(size):
                db.execute(
                    "insert into items (id, kind, collection, sha256, content, sequence_number)"
                    " values (?, 'text', 'tests', ?, 'x', 0)",
                    (item, f"{item:064x}"),
                )
                db.execute(
                    "insert into vectors (space_id, item_id, vector) values (1, ?, vector('[1]'))",
                    (item,),
                )
            yield db

    databases = list(opened())
    assert [len(load(db).ids) for db in databases] == [3, 5]
    places = {memory.place_of(db.apsw) for db in databases}
    for db in databases:
        db.close()
    del databases, db
    gc.collect()
    fresh = next(opened())
    load(fresh)
    kept = {key[0] for key in memory.residents.kept()} - {memory.place_of(fresh.apsw)}
    assert not places & kept
    fresh.close()


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_a_number_that_is_none_is_refused_by_name(
    db: dbapi.Connection, add_space: Fill, value: float
) -> None:
    vectors = vectors_of(10)
    vectors[6, 2] = value
    add_space("s", vectors)
    with pytest.raises(SqlFunctionError, match="of item 7 in space 's' holds a NaN or infinity"):
        load(db)
    with pytest.raises(sqlite3.OperationalError, match=r"^knn: the vector of item 7"):
        db.execute("select * from knn('s', 1, 2)").fetchall()
    db.execute("delete from vectors where item_id = 7")
    assert_as_stored(db)


def test_a_vector_of_the_wrong_length_is_refused(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", vectors_of(10))
    db.execute("drop trigger vectors_updated")
    db.execute("update vectors set vector = x'00000000' where item_id = 3")
    with pytest.raises(SqlFunctionError, match="of item 3 in space 's' has 4 bytes, not the 12"):
        load(db)


def test_memory_is_bounded(
    db: dbapi.Connection, add_space: Fill, reads: list[int], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in "abc":
        add_space(name, vectors_of(1000, 10))
    size = module.matrix_bytes(1000, 10)
    monkeypatch.setattr(memory, "residents", memory.Residents())
    monkeypatch.setenv("NEARSQL_MEMORY", str(2 * size))
    for name in ("a", "b", "a", "c", "a", "b"):  # c takes the place of b, the longest unused
        load(db, name)
    assert len(reads) == 4
    assert len(memory.residents.kept()) == 2
    assert memory.residents.nbytes == 2 * size
    monkeypatch.setenv("NEARSQL_MEMORY", "40KB")
    monkeypatch.setattr(memory, "residents", memory.Residents())
    message = "space 'a' needs 0.056 MB of memory, more than the 0.04 MB allowed: set the"
    with pytest.raises(memory.TooLarge, match=message):
        load(db, "a")
    monkeypatch.setenv("NEARSQL_MEMORY", "1MB")
    assert_as_stored(db, "a")


@pytest.mark.parametrize(
    ("setting", "size"),
    [("4GB", 4 * 10**9), ("512 mb", 512 * 10**6), ("1.5GiB", 3 * 2**29), ("1000", 1000)],
)
def test_sizes(monkeypatch: pytest.MonkeyPatch, setting: str, size: int) -> None:
    monkeypatch.setenv("NEARSQL_MEMORY", setting)
    assert memory.memory_limit() == size


def test_sizes_refused_and_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("NEARSQL_MEMORY", "much")
    with pytest.raises(SqlFunctionError, match="NEARSQL_MEMORY must be a size such as 4GB"):
        memory.memory_limit()
    monkeypatch.delenv("NEARSQL_MEMORY")
    assert memory.memory_limit() > 10**8


def test_positions() -> None:
    space = Space(1, "s", 1, "l2", 0, 0)
    matrix = Matrix(np.array([-4, 2, 9]), np.zeros((3, 1), np.float32), space)
    assert matrix.positions(np.array([9, 3, -4, 9, 10, -5])).tolist() == [0, 2]
    assert matrix.positions(np.array([], np.int64)).tolist() == []
    assert [matrix.position(i) for i in (-4, 9, 3, 10)] == [0, 2, None, None]


def test_loading_can_be_interrupted(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", vectors_of(100))
    monkeypatch.setattr("nearsql.udfs.interrupt.INTERVAL_S", 0)
    monkeypatch.setattr(stored_vectors, "_READ_NUMBERS", 3)
    calls = 0

    def stop() -> bool:
        nonlocal calls
        calls += 1
        return calls > 20

    db.apsw.set_progress_handler(stop, 500)
    with pytest.raises(apsw.InterruptError):
        load(db)
    db.apsw.set_progress_handler(None)
    assert_as_stored(db)


def test_a_time_limit_while_reading_is_an_interrupt(db: dbapi.Connection, add_space: Any) -> None:
    add_space("s", np.zeros((300, 4)))
    steps = 0

    def limit() -> bool:
        nonlocal steps
        steps += 1
        return steps > 5

    space = find_space(db.apsw, "s")
    db.apsw.set_progress_handler(limit, 100)
    with pytest.raises(apsw.InterruptError):
        load_matrix(db.apsw, space)
    db.apsw.set_progress_handler(None)
    assert len(load_matrix(db.apsw, space).ids) == 300
