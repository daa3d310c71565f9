"""Fixtures that every test may use."""

import os
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest

# One thread each, so that tests running beside each other do not fight for the cores.
os.environ.setdefault("OMP_NUM_THREADS", "1")

from nearsql.udfs import connection, dbapi

Fill = Callable[..., int]


@pytest.fixture
def database(tmp_path: Path) -> Path:
    """The path of an empty nearsql database."""
    path = tmp_path / "test.db"
    connection.create(path).close()
    return path


@pytest.fixture
def db(database: Path) -> Iterator[dbapi.Connection]:
    """An open connection to an empty nearsql database."""
    opened = connection.connect(database)
    yield opened
    opened.close()


@pytest.fixture
def add_space(db: dbapi.Connection) -> Fill:
    """Gives `db` a space with these vectors, an item each: add_space("s", array, metric="l2")."""

    def add(name: str, vectors: np.ndarray, metric: str = "l2", first_item: int = 1) -> int:
        vectors = np.asarray(vectors, "<f4")
        space_id = db.execute(
            "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', ?, ?)",
            (name, vectors.shape[1], metric),
        ).lastrowid
        assert space_id is not None
        for number, vector in enumerate(vectors):
            item = first_item + number
            db.execute(
                "insert or ignore into items (id, kind, collection, sha256, content, sequence_number)"
                " values (?, 'text', 'tests', ?, ?, ?)",
                (item, f"{item:064x}", f"text {item}", item - 1),
            )
            db.execute(
                "insert into vectors (space_id, item_id, vector) values (?, ?, ?)",
                (space_id, item, vector.tobytes()),
            )
        db.commit()
        return space_id

    return add
