"""Topics in SQL, as runs and on the command line."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from numpy.typing import NDArray
from sklearn.datasets import load_digits

from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster.topics import cluster_topics
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.replay import replay
from nearsql.udfs import dbapi
from nearsql.udfs.clustering.topics import TopicSettings
from nearsql.udfs.clustering.topics import topics as find_topics
from nearsql.udfs.search.matrix import load_matrix
from nearsql.udfs.search.stored_graph import noting_graph_runs
from nearsql.udfs.spaces import find_space

Fill = Callable[..., int]


@pytest.fixture
def digits(add_space: Fill) -> NDArray[np.float32]:
    rows = load_digits().data[:600].astype(np.float32)
    add_space("digits", rows)
    return rows


def test_rows_are_the_levels(db: dbapi.Connection, digits: NDArray[np.float32]) -> None:
    cursor = db.execute("select * from topics('digits') order by level, id")
    columns = [column[0] for column in cursor.description or ()]
    assert columns == [
        "id",
        "level",
        "cluster",
        "parent_level",
        "parent",
        "probability",
        "persistence",
    ]
    rows = cursor.fetchall()
    levels = find_topics(load_matrix(db.apsw, find_space(db.apsw, "digits")), TopicSettings())
    assert len(levels) >= 2
    expected = []
    for number, level in enumerate(levels, start=1):
        for item, label in enumerate(level.labels.tolist(), start=1):
            above = level.parents[label].tolist() if label >= 0 else [0, -1]
            expected.append(
                (
                    item,
                    number,
                    label if label >= 0 else None,
                    *(above if above[0] else (None, None)),
                    level.probabilities[item - 1],
                    level.persistence,
                )
            )
    assert rows == expected


def test_downsample_within_and_parameters(
    db: dbapi.Connection, digits: NDArray[np.float32]
) -> None:
    by_name = db.execute(
        "select id, level, cluster from topics('digits', 10, 4)"
        " where downsample = 2 and n_neighbors = 10 and noise_level = 0.2 and random_state = 3"
    ).fetchall()
    assert {item for item, _, _ in by_name} == set(range(1, 601, 2))
    in_order = db.execute(
        "select id, level, cluster from topics('digits', 10, 4, 1, ?, 10, 0.2, 3)",
        (json.dumps(list(range(1, 601, 2))),),
    ).fetchall()
    assert by_name == in_order
    few = db.execute("select * from topics('digits', 5, 5, 1, '[1, 2, 3]')").fetchall()
    assert few == [(item, 1, None, None, None, 0.0, None) for item in (1, 2, 3)]
    assert db.execute("select * from topics('digits', 5, 5, 1, '[]')").fetchall() == []


def test_a_stored_graph_serves(db: dbapi.Connection, digits: NDArray[np.float32]) -> None:
    computed = db.execute("select * from topics('digits')").fetchall()
    (stored,) = neighbors(db, ["digits"], 20)
    with noting_graph_runs() as graphs:
        assert db.execute("select * from topics('digits')").fetchall() == computed
    assert graphs == {stored.run_id}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("'nope'", "there is no space 'nope'"),
        ("'digits', 1", "min_cluster_size must be a whole number of at least 2, not 1"),
        ("'digits', 5, 0", "min_samples must be a whole number of at least 1, not 0"),
        ("'digits', 5, 5, 0", "downsample must be a whole number of at least 1, not 0"),
        ("'digits', 5, 5, 1, null, 1", "n_neighbors must be a whole number of at least 2, not 1"),
        ("'digits', 5, 5, 1, null, 15, 1.5", "noise_level must be at most 1, not 1.5"),
        ("'digits', 5, 5, 1, null, 15, -1", "noise_level must be at least 0.0, not -1"),
        ("'digits', 5, 5, 1, null, 15, 0.5, -1", "random_state must be a whole number"),
        ("'digits', 5, 5, 1, null, 15, 0.5, 4294967296", "must be at most 4294967295"),
    ],
)
def test_wrong_arguments_are_sentences(
    db: dbapi.Connection, digits: NDArray[np.float32], arguments: str, sentence: str
) -> None:
    with pytest.raises(dbapi.OperationalError, match=r"^topics: ") as caught:
        db.execute(f"select * from topics({arguments})").fetchall()
    assert sentence in str(caught.value)


def test_a_run_records_levels_parents_and_persistence(
    db: dbapi.Connection, digits: NDArray[np.float32]
) -> None:
    (result,) = cluster_topics(db, ["digits"], min_cluster_size=6, seed=5)
    counts = result.counts
    kind, seed, parameters = db.execute(
        "select kind, seed, parameters_json from runs where id = ?", (result.run_id,)
    ).fetchone()
    assert (kind, seed) == ("cluster", 5)
    assert json.loads(parameters) == {
        "method": "topics",
        "space": "digits",
        "min_cluster_size": 6,
        "min_samples": 5,
        "n_neighbors": 15,
        "noise_level": 0.5,
        "random_state": 5,
        "downsample": 1,
        "within": None,
    }
    stored = db.execute(
        "select m.item_id, m.level, c.label, p.level, p.label, m.probability"
        " from memberships m left join clusters c on c.id = m.cluster_id"
        " left join clusters p on p.id = c.parent_id where m.run_id = ? order by 2, 1",
        (result.run_id,),
    ).fetchall()
    rows = db.execute(
        "select id, level, cluster, parent_level, parent, probability, persistence"
        " from topics('digits', 6) where random_state = 5 order by level, id"
    ).fetchall()
    assert stored == [row[:6] for row in rows]
    persistence = {row[1]: row[6] for row in rows}
    assert counts["levels"] == max(persistence)
    assert persistence.pop(counts["levels"]) is None
    assert counts["persistent_level"] == max(persistence, key=lambda level: persistence[level])
    for level, value in persistence.items():
        assert counts[f"persistence_level_{level}"] == value
    for level in range(2, int(counts["levels"]) + 1):
        of_level = [row for row in rows if row[1] == level]
        noise = sum(row[2] is None for row in of_level)
        assert counts[f"noise_level_{level}"] == noise
        assert counts[f"clusters_level_{level}"] == len({row[2] for row in of_level} - {None})
    sizes = db.execute(
        "select c.size, count(*) from clusters c join memberships m on m.cluster_id = c.id"
        " where c.run_id = ? group by c.id",
        (result.run_id,),
    ).fetchall()
    assert sizes
    assert all(size == count for size, count in sizes)
    assert replay(db, result.run_id).is_same


def test_too_few_items_are_noise(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("few", np.eye(4, 3))
    (result,) = cluster_topics(db, ["few"])
    assert (result.counts["clusters"], result.counts["noise"], result.counts["levels"]) == (0, 4, 1)
    assert "persistent_level" not in result.counts
    assert replay(db, result.run_id).is_same


def test_command(db: dbapi.Connection, digits: NDArray[np.float32], database: Path) -> None:
    words = ["cluster", str(database), "digits", "--method", "topics", "--seed", "3"]
    outcome = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert outcome.exit_code == 0
    seed, levels = db.execute(
        "select r.seed, max(c.level) from runs r join clusters c on c.run_id = r.id"
    ).fetchone()
    assert seed == 3
    assert levels >= 2
