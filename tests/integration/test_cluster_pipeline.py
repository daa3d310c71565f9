"""`nearsql cluster`: runs, rows, counts, replays, refusals."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster import cluster_spaces, forecast
from nearsql.pipeline.cluster import run as module
from nearsql.pipeline.cluster.results import FoundClusters
from nearsql.pipeline.console import UserError
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.replay import replay
from nearsql.udfs import dbapi

Fill = Callable[..., int]


def blobs(n: int = 60, seed: int = 0) -> np.ndarray:
    """Three groups of points, and one point far from all."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    rows = centres[np.arange(n) % 3] + rng.normal(size=(n, 2))
    rows[-1] = [500.0, 500.0]
    return rows.astype(np.float32)


def test_rows_counts_and_parameters(db: dbapi.Connection, add_space: Fill) -> None:
    rows = blobs()
    add_space("s", rows)
    (result,) = cluster_spaces(db, min_cluster_size=6)
    counts = {"total": 60, "sampled": 60, "clusters": 3, "noise": 1, "noise_share": 0.0167}
    assert result.counts == counts
    assert result.skipped is None
    status, kind, parameters, counted = db.execute(
        "select status, kind, parameters_json, counts_json from runs where id = ?", (result.run_id,)
    ).fetchone()
    assert (status, kind) == ("finished", "cluster")
    assert json.loads(counted) == counts
    assert json.loads(parameters) == {
        "method": "hdbscan",
        "space": "s",
        "min_cluster_size": 6,
        "min_samples": 6,
        "downsample": 1,
        "selection": "eom",
        "epsilon": 0.0,
        "neighbors": "exact",
        "within": None,
    }
    stored = db.execute(
        "select m.item_id, c.label, m.probability, m.outlier_score, m.core_distance, c.birth_lambda,"
        " c.max_lambda"
        " from memberships m left join clusters c on c.id = m.cluster_id"
        " where m.run_id = ? and m.level = 1 and not m.is_assigned order by m.item_id",
        (result.run_id,),
    ).fetchall()
    assert stored == db.execute("select * from hdbscan('s', 6) order by id").fetchall()
    assert db.execute(
        "select space, clusters, items, noise from clustering_results where run_id = ?",
        (result.run_id,),
    ).fetchone() == ("s", 3, 60, 1)


def test_clusters_have_size_centroid_and_exemplar(db: dbapi.Connection, add_space: Fill) -> None:
    rows = blobs()
    add_space("s", rows)
    (result,) = cluster_spaces(db, ["s"], min_cluster_size=6)
    found = db.execute("select * from hdbscan('s', 6)").fetchall()
    clusters = db.execute(
        "select label, size, centroid, exemplar_item_id from clusters where run_id = ? order by label",
        (result.run_id,),
    ).fetchall()
    assert len(clusters) == 3
    for label, size, centroid, exemplar in clusters:
        members = [row for row in found if row[1] == label]
        assert size == len(members)
        mean = rows[[row[0] - 1 for row in members]].mean(axis=0)
        np.testing.assert_allclose(np.frombuffer(centroid, "<f4"), mean, rtol=1e-5)
        best = max(row[2] for row in members)
        assert exemplar == min(row[0] for row in members if row[2] == best)


def test_centroid_of_a_cosine_space_is_the_mean_direction(
    db: dbapi.Connection, add_space: Fill
) -> None:
    angles = np.repeat([0.0, 2.0], 10) + np.linspace(0, 0.05, 20)
    rows = np.column_stack([np.cos(angles), np.sin(angles)]) * np.linspace(1, 9, 20)[:, None]
    add_space("s", rows, metric="cosine")
    (result,) = cluster_spaces(db, ["s"])
    centroids = db.execute("select centroid from clusters where run_id = ?", (result.run_id,))
    norms = [np.linalg.norm(np.frombuffer(centroid, "<f4")) for (centroid,) in centroids]
    assert norms == pytest.approx([1.0, 1.0], abs=1e-3)  # of unit vectors, whatever their lengths


def test_each_space_is_a_run_and_a_second_time_too(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("a", blobs())
    add_space("b", blobs(seed=1))
    first = cluster_spaces(db, min_cluster_size=6)
    second = cluster_spaces(db, min_cluster_size=8)
    assert [result.space for result in first] == ["a", "b"]
    runs = [result.run_id for result in first + second]
    assert len(set(runs)) == 4
    assert db.execute("select count(distinct run_id), count(*) from memberships").fetchone() == (
        4,
        240,
    )


def test_spaces_that_cannot_be_clustered_are_skipped_with_the_reason(
    db: dbapi.Connection, add_space: Fill, capsys: pytest.CaptureFixture[str]
) -> None:
    add_space("fine", blobs())
    add_space("one", np.ones((1, 2)))
    add_space("products", np.eye(9), metric="ip")
    results = {result.space: result for result in cluster_spaces(db)}
    assert results["fine"].run_id is not None
    assert results["one"].run_id is None
    assert results["one"].counts == {"total": 1, "sampled": 1}
    said = capsys.readouterr().err
    assert "skipped one: a downsample by 1 leaves 1 of 1 items, and 2 are needed" in said
    assert "skipped products: inner products are not distances" in said
    assert db.execute("select count(*) from runs").fetchone() == (1,)


def test_downsample_takes_its_share(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", blobs(200))
    (result,) = cluster_spaces(db, ["s"], min_cluster_size=5, downsample=4)
    assert (result.counts["total"], result.counts["sampled"]) == (200, 50)
    assert db.execute("select count(*), max((item_id - 1) % 4) from memberships").fetchone() == (
        50,
        0,
    )


def test_recorded_min_samples_is_what_few_items_allow(
    db: dbapi.Connection, add_space: Fill
) -> None:
    add_space("s", blobs(9))
    (result,) = cluster_spaces(db, ["s"], min_cluster_size=3, min_samples=50)
    recorded = "select parameters_json ->> 'min_samples' from runs where id = ?"
    assert db.execute(recorded, (result.run_id,)).fetchone() == (8,)


def test_nothing_is_written_when_the_space_changes_meanwhile(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", blobs())
    compute = module.compute

    def disturbed(*args: object) -> FoundClusters:
        rows = compute(*args)  # type: ignore[arg-type]
        db.execute("delete from vectors where item_id = 7")
        db.commit()
        return rows

    monkeypatch.setattr(module, "compute", disturbed)
    with pytest.raises(UserError, match="the vectors of space 's' changed during this run"):
        cluster_spaces(db, ["s"])
    assert db.execute("select count(*) from memberships").fetchone() == (0,)
    assert db.execute("select count(*) from clusters").fetchone() == (0,)
    status, error = db.execute("select status, error from runs").fetchone()
    assert status == "failed"
    assert "changed during this run" in error


def test_no_transaction_is_open_while_computing(
    db: dbapi.Connection, add_space: Fill, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", blobs())
    compute = module.compute

    def beside(*args: object) -> FoundClusters:
        rows = compute(*args)  # type: ignore[arg-type]
        assert not db.in_transaction
        other = dbapi.connect(database, timeout=0)
        other.execute("insert into metadata (key, value) values ('beside', '1')")
        other.commit()
        other.close()
        return rows

    monkeypatch.setattr(module, "compute", beside)
    (result,) = cluster_spaces(db, ["s"])
    assert result.run_id is not None


def test_replay_gives_the_same_result(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("s", blobs())
    (result,) = cluster_spaces(db, ["s"], min_cluster_size=4, selection="leaf", epsilon=0.5)
    assert result.run_id is not None
    db.execute("update spaces set name = 'renamed'")
    db.commit()
    assert replay(db, result.run_id).is_same


def test_unknown_space_is_a_sentence(db: dbapi.Connection, add_space: Fill) -> None:
    with pytest.raises(UserError, match="no spaces to cluster"):
        cluster_spaces(db)
    add_space("s", blobs())
    with pytest.raises(LookupError, match="there is no space 't': the spaces are s"):
        cluster_spaces(db, ["s", "t"])
    assert db.execute("select count(*) from runs").fetchone() == (0,)


def test_command(db: dbapi.Connection, add_space: Fill, database: Path) -> None:
    add_space("s", blobs())
    outcome = CliRunner().invoke(
        cli, ["cluster", str(database), "s", "--min-cluster-size", "6"], catch_exceptions=False
    )
    assert outcome.exit_code == 0
    (run,) = db.execute("select max(id) from runs").fetchone()
    assert f"run {run}: s" in outcome.output
    assert "noise     1, 1.7% of what was clustered" in outcome.output
    assert f"next: nearsql sql {database}" in outcome.output


def test_command_with_nothing_to_cluster(
    db: dbapi.Connection, add_space: Fill, database: Path, tmp_path: Path
) -> None:
    add_space("one", np.ones((1, 2)))
    with pytest.raises(UserError, match="no space was clustered"):
        CliRunner().invoke(cli, ["cluster", str(database)], catch_exceptions=False)
    missing = tmp_path / "missing.db"
    with pytest.raises(dbapi.OperationalError, match="there is no file"):
        CliRunner().invoke(cli, ["cluster", str(missing)], catch_exceptions=False)
    assert not missing.exists()


def test_long_work_is_forecast(
    db: dbapi.Connection,
    add_space: Fill,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    add_space("s", blobs())
    cluster_spaces(db, ["s"], quiet=False)
    assert capsys.readouterr().err == "s: 60 items\n"  # its time is not worth a word
    monkeypatch.setattr(forecast, "SECONDS_WORTH_SAYING", 0.0)
    cluster_spaces(db, ["s"], quiet=False)
    assert "s: 60 items, about 0 seconds and 67.4 MB of memory" in capsys.readouterr().err
    cluster_spaces(db, ["s"], downsample=3, quiet=False)
    assert "s: 20 of 60 items, about 0 seconds and 67.2 MB" in capsys.readouterr().err


def test_the_forecast_knows_of_stored_neighbours_and_of_graphs(
    db: dbapi.Connection, add_space: Fill, monkeypatch: pytest.MonkeyPatch
) -> None:
    add_space("s", blobs())
    asked: list[bool] = []
    work = forecast.work

    def noted(n: int, parameters: dict[str, Any], has_neighbors: bool) -> forecast.Work:
        asked.append(has_neighbors)
        return work(n, parameters, has_neighbors)

    monkeypatch.setattr(forecast, "work", noted)
    cluster_spaces(db, ["s"], quiet=False)
    neighbors(db, ["s"], k=6)
    (read,) = cluster_spaces(db, ["s"], quiet=False)
    cluster_spaces(db, ["s"], min_samples=7, quiet=False)
    cluster_spaces(db, ["s"], downsample=2, quiet=False)
    assert asked == [False, True, False, False]
    assert read.graph_run is not None
    exact, graph = ({"method": "hdbscan", "neighbors": way} for way in ("exact", "graph"))
    # The products of few items are all made, and serve every step.
    assert work(1000, exact, True).products == work(1000, exact, False).products
    assert work(20_000, exact, True).products < work(20_000, exact, False).products
    assert 2 * work(11_000, exact, False).products < work(11_001, exact, False).products
    # A graph is worth its while for many items only.
    assert work(5_000, graph, False).products > work(5_000, exact, False).products
    assert work(300_000, graph, False).products < work(300_000, exact, False).products / 50


def test_what_is_approximated_is_recorded_and_said(
    db: dbapi.Connection, add_space: Fill, database: Path
) -> None:
    add_space("s", blobs(600))
    command = ["cluster", str(database), "s", "--neighbors", "graph", "--min-cluster-size", "12"]
    outcome = CliRunner().invoke(cli, command, catch_exceptions=False)
    assert outcome.exit_code == 0
    run, parameters, counts = db.execute(
        "select id, parameters_json, counts_json from runs"
    ).fetchone()
    counted = json.loads(counts)
    assert json.loads(parameters)["neighbors"] == "graph"
    assert counted["approximated"] == 1
    assert 1 <= counted["graph_probes"]
    assert 0.9 <= counted["graph_recall"] <= 1
    assert 0.9 <= counted["graph_agreement"] <= 1
    assert f"a graph of {counted['graph_k']} neighbours, " in outcome.output
    assert replay(db, run).is_same


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (
            "--levels 3 --epsilon 0.5",
            "--epsilon does not go with --levels, which takes --downsample",
        ),
        ("--levels 3 --sweep", "--sweep and --levels exclude each other"),
        ("--method topics --levels 2", "--levels and --method topics exclude each other"),
        ("--loss-distance 1 --sweep", "--loss-distance and --sweep exclude each other"),
        ("--seed-rules", "--seed-rules belongs to --levels"),
        ("--seed 1", "--seed belongs to --method topics"),
        ("--sizes 5,10", "--sizes belongs to --sweep"),
        ("--json", "--json belongs to --sweep"),
        ("--sweep", "--sweep is of one space: name it"),
        ("--method topics --assign", "--assign does not go with --method topics"),
    ],
)
def test_each_way_takes_its_own_options(
    db: dbapi.Connection, add_space: Fill, database: Path, words: str, message: str
) -> None:
    add_space("s", blobs())
    add_space("t", blobs())
    with pytest.raises(UserError, match=message):
        CliRunner().invoke(cli, ["cluster", str(database), *words.split()], catch_exceptions=False)
    assert db.execute("select count(*) from runs").fetchone() == (0,)


@pytest.mark.parametrize("sizes", ["5,x", "1,5", "", "5;6"])
def test_sizes_are_whole_numbers_from_two_on(database: Path, sizes: str) -> None:
    outcome = CliRunner().invoke(cli, ["cluster", str(database), "s", "--sweep", "--sizes", sizes])
    assert outcome.exit_code == 2
    assert "is not a list of whole numbers from 2 on, such as 5,10,20" in outcome.output
