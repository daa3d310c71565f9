"""project as SQL."""

from collections.abc import Callable

import numpy as np
import pytest

from nearsql.udfs import dbapi
from nearsql.udfs.projection import Settings
from nearsql.udfs.projection import project as project_points
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]


@pytest.fixture
def rows(add_space: Fill) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(50, 6)).astype(np.float32)
    add_space("s", rows)
    return rows


def test_columns_and_coordinates(db: dbapi.Connection, rows: np.ndarray) -> None:
    cursor = db.execute("select * from project('s', 'pca', 3)")
    assert [column[0] for column in cursor.description or ()] == ["id", "x", "y", "vector"]
    found = cursor.fetchall()
    assert [row[0] for row in found] == list(range(1, 51))
    for _, x, y, vector in found:
        numbers = np.frombuffer(vector, "<f4")
        assert len(numbers) == 3
        assert (x, y) == (numbers[0], numbers[1])


def test_umap_by_name_and_within(db: dbapi.Connection, rows: np.ndarray) -> None:
    sql = "select * from project('s') where n_neighbors = 5 and within = ?"
    first = db.execute(sql, ("select id from items where id <= 20",)).fetchall()
    assert [row[0] for row in first] == list(range(1, 21))
    assert first == db.execute(sql, (str(list(range(1, 21))),)).fetchall()


def test_is_the_functions_own(db: dbapi.Connection, rows: np.ndarray) -> None:
    matrix = load_matrix(db.apsw, find_space(db.apsw, "s"))
    expected = project_points(matrix, Settings("tsne", perplexity=5.0)).coordinates
    found = db.execute("select vector from project('s', 'tsne') where perplexity = 5").fetchall()
    assert b"".join(vector for (vector,) in found) == expected.tobytes()


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("'nope'", "there is no space 'nope'"),
        ("'s', 'mds'", "method must be one of umap, tsne, pca, not 'mds'"),
        ("'s', 'pca', 1", "n_components must be a whole number of at least 2, not 1"),
        ("'s', 'pca', 7", "pca of 50 items with 6 dimensions has at most 6 components, not 7"),
        ("'s', 'tsne', 3", "t-SNE makes maps of 2 components, not 3: use umap or pca"),
        ("'s', 'umap', 2, 1", "n_neighbors must be a whole number of at least 2, not 1"),
        ("'s', 'umap', 2, 15, 1.5", "min_dist must be at most 1, not 1.5"),
        ("'s', 'tsne', 2, 15, 0.1, 0", "perplexity must be at least 1.0, not 0"),
        ("'s', 'umap', 2, 15, 0.1, 30, -1", "random_state must be a whole number of at least 0"),
        ("'s', 'umap', 2, 15, 0.1, 30, 4294967296", "random_state must be at most 4294967295"),
        ("'s', 'umap', 2, 15, 0.1, 30, 42, '[1, 2]'", "a map needs at least 3 items, not 2"),
    ],
)
def test_wrong_arguments_are_sentences(
    db: dbapi.Connection, rows: np.ndarray, arguments: str, sentence: str
) -> None:
    with pytest.raises(dbapi.OperationalError, match=r"^project: ") as caught:
        db.execute(f"select * from project({arguments})").fetchall()
    assert sentence in str(caught.value)
