"""cluster_hierarchy in SQL, `nearsql cluster --levels`, and the tree they make in the tables."""

import json
from collections import Counter
from collections.abc import Callable
from importlib.resources import files
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from sklearn.datasets import load_digits

from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster.levels import cluster_levels
from nearsql.pipeline.replay import replay
from nearsql.udfs import dbapi

Fill = Callable[..., int]


@pytest.fixture
def digits(add_space: Fill) -> np.ndarray:
    rows = load_digits().data.astype(np.float32)
    add_space("digits", rows)
    return rows


Labels = dict[int, dict[int, int | None]]


def labels_by_level(db: dbapi.Connection, sql: str) -> Labels:
    found: Labels = {}
    for item, level, cluster in db.execute(sql):
        found.setdefault(level, {})[item] = cluster
    return found


def test_levels_by_hand_in_sql(db: dbapi.Connection, digits: np.ndarray) -> None:
    """Level 1 is one hdbscan, level 2 one of the items of each cluster."""
    first = dict(db.execute("select id, cluster from hdbscan('digits', 50, 10)"))
    found = labels_by_level(
        db, "select id, level, cluster from cluster_hierarchy('digits', 2, 1, null, 1)"
    )
    assert found[1] == first
    second: dict[int, int] = {}
    clusters = sorted({cluster for cluster in first.values() if cluster is not None})
    for cluster in clusters:
        members = [item for item, label in first.items() if label == cluster]
        split = db.execute(
            "select id, cluster from hdbscan('digits', ?, 5, 1, ?) where cluster is not null",
            (max(15, len(members) // 10), json.dumps(members)),
        )
        offset = max(second.values(), default=-1) + 1
        second |= {item: offset + label for item, label in split}
    assert len(set(second.values())) >= 4
    assert {item: label for item, label in found[2].items() if label is not None} == second


def test_nobody_is_lost_and_each_cluster_has_its_parent(
    db: dbapi.Connection, digits: np.ndarray
) -> None:
    rows = db.execute("select * from cluster_hierarchy('digits')").fetchall()
    assert [row[:2] for row in rows] == [(i + 1, level) for level in (1, 2, 3) for i in range(1797)]
    by_place = {(item, level): row for item, level, *row in rows}
    for (item, level), (
        cluster,
        parent,
        probability,
        _,
        core_distance,
        *lambdas,
    ) in by_place.items():
        birth, most = lambdas
        assert (cluster is None) == (by_place[item, 1][0] is None) == (birth is None)
        assert (birth is None and most is None) or birth < most
        assert parent == (by_place[item, level - 1][0] if level > 1 else None)
        assert core_distance > 0
        if cluster is None:
            assert probability == 0
    clusters = [len({row[2] for row in rows if row[1] == level}) - 1 for level in (1, 2, 3)]
    assert clusters == sorted(clusters)
    assert clusters[0] >= 5
    assert clusters[2] > clusters[0]


def test_a_run_records_the_tree(db: dbapi.Connection, digits: np.ndarray) -> None:
    (result,) = cluster_levels(db, ["digits"])
    run = result.run_id
    parameters, counts = db.execute(
        "select parameters_json, counts_json from runs where id = ?", (run,)
    ).fetchone()
    assert json.loads(parameters) == {
        "method": "levels",
        "space": "digits",
        "levels": 3,
        "seed_rules": 0,
        "downsample": 1,
        "min_cluster_size": 50,
        "min_samples": 10,
        "neighbors": "exact",
        "within": None,
    }
    stored = db.execute(
        "select m.item_id, m.level, c.label, p.label, m.probability, m.outlier_score,"
        " m.core_distance, c.birth_lambda, c.max_lambda from memberships m left join clusters c on c.id = m.cluster_id"
        " left join clusters p on p.id = c.parent_id where m.run_id = ? order by m.level, m.item_id",
        (run,),
    ).fetchall()
    assert stored == db.execute("select * from cluster_hierarchy('digits')").fetchall()
    sizes = Counter((level, label) for _, level, label, *_ in stored if label is not None)
    noise = sum(row[1] == 1 and row[2] is None for row in stored)
    counted = json.loads(counts)
    assert counted == result.counts
    for level in (2, 3):
        assert counted[f"clusters_level_{level}"] == len([1 for at, _ in sizes if at == level])
        assert counted[f"noise_level_{level}"] == noise == counted["noise"]
        assert counted[f"noise_share_level_{level}"] == counted["noise_share"]
        assert counted[f"joined_level_{level}"] == sum(
            row[1] == level and row[2] is not None and row[4] == 0 for row in stored
        )
    assert counted["joined_level_2"] > 0
    clusters = db.execute(
        "select c.level, c.label, c.size, c.centroid, c.exemplar_item_id, p.level"
        " from clusters c left join clusters p on p.id = c.parent_id where c.run_id = ?",
        (run,),
    ).fetchall()
    assert len(clusters) == len(sizes)
    for level, label, size, centroid, exemplar, parent_level in clusters:
        assert parent_level == (level - 1 if level > 1 else None)
        members = [row for row in stored if row[1:3] == (level, label)]
        assert size == len(members)
        assert exemplar == min(members, key=lambda row: (-row[4], row[0]))[0]
        mean = digits[[row[0] - 1 for row in members]].astype(float).mean(axis=0)
        np.testing.assert_allclose(np.frombuffer(centroid, "<f4"), mean, rtol=1e-6)
    assert replay(db, run or 0).is_same


@pytest.mark.parametrize("seed_rules", [False, True])
@pytest.mark.parametrize("levels", [1, 2])
def test_fewer_levels_are_the_first_ones(
    db: dbapi.Connection, digits: np.ndarray, levels: int, seed_rules: bool
) -> None:
    whole = "select id, level, cluster from cluster_hierarchy('digits', {}, 2, null, {})"
    found = labels_by_level(db, whole.format(levels, int(seed_rules)))
    expected = labels_by_level(db, whole.format(3, int(seed_rules)))
    assert found == {level: expected[level] for level in range(1, levels + 1)}
    (result,) = cluster_levels(db, ["digits"], levels=levels, downsample=2, seed_rules=seed_rules)
    assert found == labels_by_level(
        db,
        "select m.item_id, m.level, c.label from memberships m"
        f" left join clusters c on c.id = m.cluster_id where m.run_id = {result.run_id}",
    )
    assert replay(db, result.run_id or 0).is_same


def test_new_vectors_are_assigned_at_the_coarsest(db: dbapi.Connection, digits: np.ndarray) -> None:
    (result,) = cluster_levels(db, ["digits"], downsample=2)
    alike = db.execute(
        "select id, cluster from cluster_assignments(?) order by id", (result.run_id,)
    ).fetchall()
    assert [item for item, _ in alike] == list(range(2, 1798, 2))
    assert {cluster for _, cluster in alike} == {None, *range(int(result.counts["clusters"]))}


def test_a_cosine_space(db: dbapi.Connection, add_space: Fill, digits: np.ndarray) -> None:
    lengths = np.random.default_rng(0).uniform(1, 9, (len(digits), 1))
    add_space("directions", digits * lengths, metric="cosine")
    add_space("normalised", digits / np.linalg.norm(digits, axis=1, keepdims=True))
    sql = "select id, level, cluster from cluster_hierarchy('{}', 3, 3)"
    found = labels_by_level(db, sql.format("directions"))
    # The lengths are rounded, so that a few distances differ in their last bits.
    alike = labels_by_level(db, sql.format("normalised"))
    same = [found[level][item] == alike[level][item] for level in alike for item in alike[level]]
    assert np.mean(same) > 0.98


@pytest.mark.parametrize("n", [0, 1, 2, 40])
def test_small_spaces_are_noise_at_each_level(
    db: dbapi.Connection, add_space: Fill, digits: np.ndarray, n: int
) -> None:
    items = json.dumps(list(range(1, n + 1)))
    rows = db.execute("select * from cluster_hierarchy('digits', 3, 1, ?)", (items,)).fetchall()
    assert [row[:3] for row in rows] == [
        (i + 1, level, None) for level in (1, 2, 3) for i in range(n)
    ]
    assert {row[7] for row in rows} <= {None}
    assert {row[6] is None for row in rows} <= {n < 2}


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ("'nothing'", "there is no space 'nothing'"),
        ("'digits', 0", "levels must be a whole number of at least 1, not 0"),
        ("'digits', 4", "levels must be at most 3, not 4"),
        ("'digits', 3, 0", "downsample must be a whole number of at least 1, not 0"),
        ("'digits', 3, 1, 'x'", "within: there is no selection 'x'"),
        ("'digits', 3, 1, null, 2", "seed_rules must be 0 or 1, not 2"),
        ("'digits', 3, 1, null, 0, 'few'", "neighbors must be one of auto, exact, graph"),
        ("'ip'", "inner products are not distances"),
        ("'ip', 3, 1, '[1]'", "inner products are not distances"),
    ],
)
def test_wrong_arguments_are_sentences(
    db: dbapi.Connection, add_space: Fill, arguments: str, sentence: str
) -> None:
    add_space("digits", np.eye(9))
    add_space("ip", np.eye(9), metric="ip")
    with pytest.raises(dbapi.OperationalError, match=r"^cluster_hierarchy: ") as caught:
        db.execute(f"select * from cluster_hierarchy({arguments})").fetchall()
    assert sentence in str(caught.value)


def test_a_time_limit_stops_it(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("big", np.random.default_rng(0).normal(size=(4000, 48)))
    db.set_progress_handler(lambda: 1, 1000)
    with pytest.raises(dbapi.OperationalError, match="interrupted"):
        db.execute("select count(*) from cluster_hierarchy('big')").fetchall()


def test_the_tree_as_a_question(db: dbapi.Connection, digits: np.ndarray) -> None:
    (result,) = cluster_levels(db, ["digits"])
    text = files("nearsql.schema.queries").joinpath("clusters_within_clusters.sql")
    cursor = db.execute(text.read_text("utf-8"), {"run": result.run_id})
    names = [column[0] for column in cursor.description or ()]
    rows = [dict(zip(names, row, strict=True)) for row in cursor]
    clusters = db.execute(
        "select c.level, c.label, p.label, c.size, p.size from clusters c"
        " left join clusters p on p.id = c.parent_id where c.run_id = ?",
        (result.run_id,),
    ).fetchall()
    expected = {
        (level, label): (size, None if whole is None else round(size / whole, 4))
        for level, label, _, size, whole in clusters
    }
    assert {
        (row["level"], row["cluster"]): (row["size"], row["share_of_parent"]) for row in rows
    } == expected
    assert len(rows) == len(clusters)
    # Each comes after its parent and its elder siblings, and the path tells the way to it.
    paths = [[int(word) for word in row["path"].split(" > ")] for row in rows]
    assert paths == sorted(paths)
    parents = {(level, label): parent for level, label, parent, _, _ in clusters}
    for row, path in zip(rows, paths, strict=True):
        assert len(path) == row["level"]
        assert path[-1] == row["cluster"]
        if len(path) > 1:
            assert path[-2] == parents[row["level"], row["cluster"]]


def test_command(db: dbapi.Connection, digits: np.ndarray, database: Path) -> None:
    words = ["cluster", str(database), "digits", "--levels", "3"]
    outcome = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert outcome.exit_code == 0
    (run, counts) = db.execute("select max(id), counts_json from runs").fetchone()
    counts = json.loads(counts)
    assert f"run {run}: digits" in outcome.output
    assert f"level 1  {counts['clusters']} clusters, noise {counts['noise']}" in outcome.output
    assert f"level 3  {counts['clusters_level_3']} clusters" in outcome.output
    outcome = CliRunner().invoke(cli, [*words, "--seed-rules"], catch_exceptions=False)
    letter = json.loads(db.execute("select counts_json from runs order by id desc").fetchone()[0])
    assert letter["noise"] < letter["noise_level_2"] < letter["noise_level_3"]
    assert f"noise {letter['noise_level_3']:,}" in outcome.output


def test_command_where_nothing_is_found(
    db: dbapi.Connection, add_space: Fill, database: Path
) -> None:
    add_space("few", np.random.default_rng(0).normal(size=(30, 2)))
    words = ["cluster", str(database), "few", "--levels", "2"]
    outcome = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert "level 2  0 clusters, noise 30, 100.0%" in outcome.output
    assert f"next: nearsql cluster {database} few --sweep" in outcome.output


def test_a_graph_that_is_asked_for_is_of_level_one(
    db: dbapi.Connection, digits: np.ndarray
) -> None:
    (result,) = cluster_levels(db, ["digits"], neighbors="graph")
    assert result.counts["approximated"] == 1
    assert result.counts["graph_agreement"] > 0.9
    assert result.counts["clusters_level_2"] > result.counts["clusters"]
    (parameters,) = db.execute("select parameters_json from runs").fetchone()
    assert json.loads(parameters)["neighbors"] == "graph"
    assert replay(db, result.run_id or 0).is_same
