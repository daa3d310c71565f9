"""Several connections read what one sees, or none do."""

import contextlib
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import apsw
import faiss
import numpy as np
import pytest

import nearsql
from nearsql.udfs import connection, dbapi
from nearsql.udfs.errors import SqlFunctionError
from nearsql.udfs.search import file_readers as module
from nearsql.udfs.search import stored_vectors, workers
from nearsql.udfs.search.file_readers import file_readers
from nearsql.udfs.search.stored_vectors import Matrix, read_matrix, rows_of_space
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]


@pytest.fixture(autouse=True)
def several_threads(monkeypatch: pytest.MonkeyPatch) -> None:
    """Three, for however few vectors, in parts of two."""
    monkeypatch.setattr(faiss, "omp_get_max_threads", lambda: 3)
    for where in (stored_vectors, workers):
        monkeypatch.setattr(where, "MANY_NUMBERS", 1)
    monkeypatch.setattr(stored_vectors, "_READ_NUMBERS", 8)


@pytest.fixture
def counts(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """How many connections each read had."""
    found: list[int] = []

    @contextlib.contextmanager
    def counted(*arguments: Any) -> Iterator[list[apsw.Connection]]:
        with file_readers(*arguments) as readers:
            found.append(len(readers))
            yield readers

    monkeypatch.setattr(stored_vectors, "file_readers", counted)
    return found


def read(db: dbapi.Connection) -> Matrix:
    space = find_space(db.apsw, "s")
    with stored_vectors.snapshot(db.apsw, space) as current:
        return read_matrix(db.apsw, current, *rows_of_space(db.apsw, current))


def assert_as_stored(db: dbapi.Connection) -> None:
    rows = db.execute("select item_id, vector from vectors order by item_id").fetchall()
    matrix = read(db)
    assert matrix.ids.tolist() == [item for item, _ in rows]
    assert matrix.vectors.tobytes() == b"".join(vector for _, vector in rows)
    exact = matrix.vectors.astype(np.float64)
    assert matrix.squared_norms.tolist() == (exact * exact).sum(axis=1).tolist()


def vectors_of(n: int, seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).standard_normal((n, 4)).astype(np.float32)


def test_threads_read_what_is_there(
    db: dbapi.Connection, database: Path, add_space: Fill, counts: list[int]
) -> None:
    add_space("s", vectors_of(101))
    assert_as_stored(db)
    beside = nearsql.connect(database, read_only=True)
    assert_as_stored(beside)
    beside.close()
    db.execute("pragma journal_mode = delete")  # whose readers would keep writers waiting
    assert_as_stored(db)
    assert counts == [3, 3, 0]


def test_changes_not_committed_are_read_by_their_own_connection(
    db: dbapi.Connection, add_space: Fill, counts: list[int]
) -> None:
    add_space("s", vectors_of(40))
    db.execute("delete from vectors where item_id % 3 = 0")
    assert_as_stored(db)
    db.rollback()
    assert_as_stored(db)
    db.execute("update items set content = 'y' where id = 1")  # another table: it might be vectors
    assert_as_stored(db)
    db.commit()
    assert_as_stored(db)
    assert counts == [0, 3, 0, 3]


def test_an_older_snapshot_is_read_by_its_own_connection(
    db: dbapi.Connection, database: Path, add_space: Fill, counts: list[int]
) -> None:
    add_space("s", vectors_of(40))
    older = nearsql.connect(database)
    older.execute("begin")
    assert_as_stored(older)
    db.execute(
        "insert into items (kind, collection, sha256, content, sequence_number)"
        " values ('text', 'tests', printf('%064x', 77), 'x', 99)"
    )
    db.commit()
    assert_as_stored(older)  # the file has changed, the space has not
    db.execute("update vectors set vector = zeroblob(16) where item_id < 9")
    db.commit()
    assert_as_stored(older)
    assert_as_stored(db)
    assert counts == [3, 3, 0, 3]
    older.close()


def test_a_change_while_they_are_opened(
    db: dbapi.Connection,
    database: Path,
    add_space: Fill,
    counts: list[int],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first reader sees the space as it was, the second one does not: none is used."""
    add_space("s", vectors_of(40))
    other = nearsql.connect(database)
    opened = module._reader
    calls: list[int] = []

    def late(*arguments: Any) -> Any:
        calls.append(1)
        if len(calls) == 2:
            other.execute("delete from vectors where item_id > 20")
            other.commit()
        return opened(*arguments)

    monkeypatch.setattr(module, "_reader", late)
    assert len(read(db).ids) == 40
    monkeypatch.undo()
    assert len(calls) == 2
    assert counts == [0]
    other.close()


def test_what_cannot_be_opened_again(
    db: dbapi.Connection, database: Path, add_space: Fill, counts: list[int], tmp_path: Path
) -> None:
    add_space("s", vectors_of(40))
    db.execute("pragma wal_checkpoint(truncate)")
    copy = tmp_path / "copy.db"
    shutil.copyfile(database, copy)
    immutable = nearsql.connect(copy, immutable=True)
    assert_as_stored(immutable)
    immutable.close()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith("copy")] == ["copy.db"]
    gone = nearsql.connect(copy)
    gone.execute("select 1 from items").fetchall()
    copy.unlink()
    assert_as_stored(gone)
    gone.close()
    alone = nearsql.connect(database)
    db.close()
    alone.execute("pragma locking_mode = exclusive")
    alone.execute("begin exclusive")
    alone.rollback()
    assert_as_stored(alone)
    alone.close()
    memory = connection.create(":memory:")
    memory.execute(
        "insert into spaces (name, kind, dimensions, metric) values ('s', 'metric', 4, 'l2')"
    )
    memory.execute(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (1, 'text', 't', printf('%064x', 1), 'x', 0), (2, 'text', 't', printf('%064x', 2), 'x', 1),"
        " (3, 'text', 't', printf('%064x', 3), 'x', 2)"
    )
    memory.execute(
        "insert into vectors (space_id, item_id, vector) select 1, id, zeroblob(16) from items"
    )
    memory.commit()
    assert_as_stored(memory)
    memory.close()
    assert counts == [0] * 4


def test_what_is_wrong_in_a_part_is_named(
    db: dbapi.Connection, add_space: Fill, counts: list[int]
) -> None:
    vectors = vectors_of(30)
    vectors[17, 2] = np.nan
    add_space("s", vectors)
    with pytest.raises(SqlFunctionError, match="of item 18 in space 's' holds a NaN"):
        read(db)
    assert counts == [3]


def test_who_is_interrupted_leaves_no_connection_open(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", vectors_of(300))
    monkeypatch.setattr("nearsql.udfs.interrupt.INTERVAL_S", 0)
    monkeypatch.setattr(workers, "_WAIT_S", 0)
    before = len(apsw.connections())
    space = find_space(db.apsw, "s")
    ids, row_ids = rows_of_space(db.apsw, space)
    steps = 0

    def limit() -> bool:
        nonlocal steps
        steps += 1
        return steps > 3

    db.apsw.set_progress_handler(limit, 500)
    with pytest.raises(apsw.InterruptError):
        read_matrix(db.apsw, space, ids, row_ids)
    db.apsw.set_progress_handler(None)
    while workers._working:
        pass
    assert len(apsw.connections()) == before
    assert_as_stored(db)
