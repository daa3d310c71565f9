"""Evaluations by `nearsql evaluate`, and the slow, obvious way to the same neighbours, for tests."""

import math
from contextlib import closing
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from click.testing import CliRunner
from numpy.typing import NDArray
from scipy.sparse import csr_matrix

from nearsql.pipeline.cli import cli
from nearsql.pipeline.vectors import insert_vectors
from nearsql.udfs import connection, dbapi

Vectors = NDArray[np.float32]
Places = NDArray[np.int64]
Distances = NDArray[np.float64]


class Nearest(NamedTuple):
    """Of each row its nearest rows of other folds: places and distances, both (n, k), nearest first.

    Where there are fewer than k: place -1, distance inf.
    """

    places: Places
    distances: Distances


def fill(
    path: Path,
    spaces: dict[str, tuple[Vectors, str]],
    labels: dict[str, list[str | None]],
) -> Path:
    """A new database: an item for each row, spaces as {name: (vectors, metric)}, labels as {name: values}.

    Item i + 1 is row i; a label that is None is not stored.
    """
    n = len(next(iter(spaces.values()))[0])
    with closing(connection.create(path)) as db, db:
        db.executemany(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?1, 'text', 'tests', printf('%064x', ?1), 'text ' || ?1, ?1 - 1)",
            ((item,) for item in range(1, n + 1)),
        )
        for name, (vectors, metric) in spaces.items():
            space_id = db.execute(
                "insert into spaces (name, kind, dimensions, metric) values (?, 'embedding', ?, ?)",
                (name, vectors.shape[1], metric),
            ).lastrowid
            assert space_id is not None
            rows = np.asarray(vectors, "<f4")
            insert_vectors(
                db, space_id, None, [(i + 1, row.tobytes()) for i, row in enumerate(rows)]
            )
        for label, values in labels.items():
            db.executemany(
                "insert into item_labels (item_id, name, value, source) values (?, ?, ?, 'test')",
                ((i + 1, label, value) for i, value in enumerate(values) if value is not None),
            )
    return path


def evaluate(path: Path, *words: Any) -> int:
    """Runs `nearsql evaluate FILE words...`; gives the run's id."""
    outcome = CliRunner().invoke(cli, ["evaluate", str(path), *map(str, words)])
    assert outcome.exit_code == 0, (words, outcome.output, outcome.exception)
    with closing(connection.connect(path, read_only=True)) as db:
        run_id, status = db.execute(
            "select id, status from runs where kind = 'evaluate' order by id desc limit 1"
        ).fetchone()
    assert status == "finished"
    return int(run_id)


def folds_of(db: dbapi.Connection, run_id: int) -> dict[int, tuple[int, str | None]]:
    """(fold, group) of each item that was judged, in the order of ids."""
    rows = db.execute(
        "select item_id, fold, group_key from folds where run_id = ? order by item_id", (run_id,)
    )
    return {item: (fold, group) for item, fold, group in rows}


def predictions_of(
    db: dbapi.Connection, run_id: int, space: str, k: int, weighting: str
) -> list[tuple[int, Any, Any, float | None]]:
    """(item, y_true, y_pred, score) in the order of ids."""
    return db.execute(
        "select p.item_id, p.y_true, p.y_pred, p.score from cv_predictions p"
        " join spaces s on s.id = p.space_id where p.run_id = ? and s.name = ? and p.k = ?"
        " and p.weighting = ? order by p.item_id",
        (run_id, space, k, weighting),
    ).fetchall()


def metrics_of(
    db: dbapi.Connection, run_id: int, space: str, k: int, weighting: str
) -> dict[tuple[int | None, str], float | None]:
    """The value of each (fold, metric); fold None is over all."""
    rows = db.execute(
        "select m.fold, m.metric, m.value from cv_metrics m join spaces s on s.id = m.space_id"
        " where m.run_id = ? and s.name = ? and m.k = ? and m.weighting = ?",
        (run_id, space, k, weighting),
    )
    return {(fold, metric): value for fold, metric, value in rows}


def stored_neighbors(
    db: dbapi.Connection, run_id: int, space: str
) -> dict[int, list[tuple[int, float]]]:
    """(neighbour, distance) of each item, nearest first."""
    found: dict[int, list[tuple[int, float]]] = {}
    for item, neighbor, distance in db.execute(
        "select item_id, neighbor_id, distance from evaluation_neighbors(?, ?)"
        " order by item_id, rank",
        (run_id, space),
    ):
        found.setdefault(item, []).append((neighbor, distance))
    return found


def nearest_of_other_folds(vectors: Vectors, metric: str, folds: NDArray[Any], k: int) -> Nearest:
    """Brute force: every distance of a row to the rows of other folds, in the order of (distance, place)."""
    rows = np.asarray(vectors, np.float64)
    n = len(rows)
    places = np.full((n, k), -1, np.int64)
    found = np.full((n, k), math.inf)
    for i in range(n):
        others = np.flatnonzero(folds != folds[i])
        distances = distances_to(rows[i], rows[others], metric)
        order = np.argsort(distances, kind="stable")[:k]  # places ascend, so ties are by place
        places[i, : len(order)] = others[order]
        found[i, : len(order)] = distances[order]
    return Nearest(places, found)


def distances_to(row: Distances, others: Distances, metric: str) -> Distances:
    """The distance of one row to each of the others, as textbooks have it."""
    if metric == "l2":
        return np.sqrt(((others - row) ** 2).sum(axis=1))
    sizes = np.sqrt((others * others).sum(axis=1) * (row * row).sum())
    cosines = np.divide(
        (others * row).sum(axis=1), sizes, out=np.zeros(len(others)), where=sizes > 0
    )
    return np.clip(1 - cosines, 0, 2)


def as_graph(nearest: Nearest, rows: Places, among: Places) -> csr_matrix:
    """The rows' neighbours as the sparse graph that scikit-learn takes for metric 'precomputed'.

    among: the places of the rows that were fitted, ascending. scikit-learn then takes the first of each
    row as they stand, and so in the order of (distance, place), which its own search does not keep.
    """
    columns = np.searchsorted(among, nearest.places[rows])
    m, k = columns.shape
    starts = np.arange(m + 1) * k
    return csr_matrix(
        (nearest.distances[rows].ravel(), columns.ravel(), starts), shape=(m, len(among))
    )
