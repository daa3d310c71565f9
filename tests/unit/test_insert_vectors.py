"""Many rows in one statement do what one row a statement does."""

import sqlite3

import numpy as np
import pytest

from nearsql.pipeline.vectors import ROWS_PER_STATEMENT, insert_vectors
from nearsql.udfs import dbapi


@pytest.mark.parametrize("n", [0, 1, ROWS_PER_STATEMENT, 2 * ROWS_PER_STATEMENT + 1])
def test_every_row_is_there_and_logged(db: dbapi.Connection, add_space, n: int) -> None:
    space = add_space("s", np.zeros((1, 3)), first_item=1)
    vectors = np.random.default_rng(n).standard_normal((n, 3)).astype("<f4")
    db.executemany(
        "insert or ignore into items (id, kind, collection, sha256, content, sequence_number)"
        " values (?1, 'text', 'c', printf('%064x', ?1), 'x', ?1)",
        [(i,) for i in range(2, n + 2)],
    )
    rows = [(i, v.tobytes()) for i, v in enumerate(vectors, 2)]
    assert insert_vectors(db, space, None, rows) == n
    assert insert_vectors(db, space, None, rows) == 0
    found = db.execute("select item_id, vector from vectors where item_id > 1 order by item_id")
    assert found.fetchall() == rows
    generations = "select count(distinct item_id), max(generation) from vector_changes"
    assert db.execute(generations).fetchone() == (n + 1, n + 1)


def test_one_bad_row_refuses_its_whole_statement(db: dbapi.Connection, add_space) -> None:
    space = add_space("s", np.zeros((3, 2)))
    db.execute("delete from vectors")
    with pytest.raises(sqlite3.IntegrityError, match="float32"):
        insert_vectors(db, space, None, [(1, bytes(8)), (2, bytes(4)), (3, bytes(8))])
    assert db.execute("select count(*) from vectors").fetchone() == (0,)
