"""`nearsql project`: runs, points, spaces of more components, replays, refusals."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nearsql.pipeline import map_forecast
from nearsql.pipeline import project as module
from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.project import project_space
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import dbapi
from nearsql.udfs.clustering import approximations
from nearsql.udfs.errors import SqlFunctionError

Fill = Callable[..., int]


@pytest.fixture
def rows(add_space: Fill) -> np.ndarray:
    rows = np.random.default_rng(0).normal(size=(40, 6)).astype(np.float32)
    add_space("s", rows)
    return rows


def test_points_parameters_and_counts(db: dbapi.Connection, rows: np.ndarray) -> None:
    result = project_space(db, "s", method="umap", n_neighbors=8, random_state=7)
    assert result.made_space is None
    assert result.counts == {"items": 40}
    kind, status, seed, parameters = db.execute(
        "select kind, status, seed, parameters_json from runs where id = ?", (result.run_id,)
    ).fetchone()
    assert (kind, status, seed) == ("project", "finished", 7)
    assert json.loads(parameters) == {
        "space": "s",
        "method": "umap",
        "n_components": 2,
        "n_neighbors": 8,
        "min_dist": 0.1,
        "random_state": 7,
        "neighbors": "exact",
        "within": None,
    }
    stored = db.execute(
        "select item_id, x, y from projection_points where run_id = ? order by item_id",
        (result.run_id,),
    ).fetchall()
    direct = "select id, x, y from project('s', 'umap', 2, 8, 0.1, 30, 7) order by id"
    assert stored == db.execute(direct).fetchall()
    assert db.execute("select count(*) from spaces").fetchone() == (1,)


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_most_neighbours_are_enough_where_asked(
    db: dbapi.Connection, add_space: Fill, method: str
) -> None:
    centres = np.random.default_rng(2).normal(size=(8, 6)) * 5
    add_space(
        "many", np.repeat(centres, 60, axis=0) + np.random.default_rng(3).normal(size=(480, 6))
    )
    result = project_space(
        db, "many", method=method, n_neighbors=8, perplexity=5, neighbors="graph"
    )
    assert result.parameters["neighbors"] == "graph"
    assert 0.9 < result.counts["graph_recall"] <= 1.0
    again = replay(db, result.run_id)
    assert again.is_same, again
    # 'auto' is exact for so few, and so it is recorded; with too many it looks for a stored graph first.
    few = project_space(db, "many", method=method, n_neighbors=8, perplexity=5)
    assert few.parameters["neighbors"] == "exact"
    assert "graph_recall" not in few.counts


def test_auto_takes_stored_neighbours_before_most_of_them(
    db: dbapi.Connection, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(approximations, "EXACT_UP_TO", 30)
    assert project_space(db, "s", n_neighbors=5).parameters["neighbors"] == "graph"
    neighbors(db, ["s"], k=6)
    stored = project_space(db, "s", n_neighbors=5)
    assert stored.parameters["neighbors"] == "exact"
    assert stored.graph_run is not None
    # Of some of the items no graph is stored.
    part = project_space(db, "s", n_neighbors=5, within="select id from items where id < 35")
    assert part.parameters["neighbors"] == "graph"
    assert project_space(db, "s", n_neighbors=5, neighbors="graph").graph_run is None
    assert "neighbors" not in project_space(db, "s", method="pca").parameters


def test_long_maps_are_forecast(
    db: dbapi.Connection,
    rows: np.ndarray,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    project_space(db, "s", method="pca", quiet=False)
    assert capsys.readouterr().err == ""
    monkeypatch.setattr(map_forecast, "SECONDS_WORTH_SAYING", 0.0)
    project_space(db, "s", method="pca", quiet=False)
    assert capsys.readouterr().err == "s: 40 items, about 0 seconds and 1.0 kB of memory\n"
    seconds = map_forecast.layout_seconds
    umap, tsne = ({"method": m, "n_neighbors": 15, "random_state": 1} for m in ("umap", "tsne"))
    assert seconds(20_000, umap) < seconds(10_000, umap)  # umap-learn takes fewer epochs for many
    assert seconds(70_000, umap) < seconds(70_000, tsne)
    monkeypatch.setattr(map_forecast, "worker_count", lambda: 8)
    assert seconds(70_000, {**umap, "random_state": None}) < seconds(70_000, umap) / 4


def test_few_items_record_the_effective_parameters(db: dbapi.Connection, add_space: Fill) -> None:
    add_space("few", np.random.default_rng(1).normal(size=(7, 4)))
    assert project_space(db, "few", method="umap").parameters["n_neighbors"] == 6
    assert project_space(db, "few", method="tsne").parameters["perplexity"] == 2.0


def test_more_components_make_a_space(db: dbapi.Connection, rows: np.ndarray) -> None:
    result = project_space(db, "s", method="pca", n_components=4)
    assert result.made_space == "s/pca-4d"
    assert db.execute(
        "select kind, dimensions, metric, run_id from spaces where name = 's/pca-4d'"
    ).fetchone() == ("projection", 4, "l2", result.run_id)
    same = db.execute(
        "select count(*) from project('s', 'pca', 4) p join vectors v on v.item_id = p.id"
        " join spaces s on s.id = v.space_id and s.name = 's/pca-4d'"
        " where v.vector = p.vector and v.run_id = ?",
        (result.run_id,),
    ).fetchone()
    assert same == (40,)
    assert db.execute("select count(*) from projection_points").fetchone() == (40,)
    assert len(db.execute("select * from knn('s/pca-4d', 1, 3)").fetchall()) == 3


def test_a_taken_name_is_a_sentence(db: dbapi.Connection, rows: np.ndarray) -> None:
    first = project_space(db, "s", method="pca", n_components=3)
    with pytest.raises(UserError, match=f"'s/pca-3d' is made by run {first.run_id}.*--name"):
        project_space(db, "s", method="pca", n_components=3)
    with pytest.raises(UserError, match="the space 's' is there already"):
        project_space(db, "s", method="pca", n_components=3, name="s")
    other = project_space(db, "s", method="pca", n_components=3, name="mine")
    assert other.made_space == "mine"
    with pytest.raises(UserError, match="2 components is not made a space"):
        project_space(db, "s", method="pca", name="mine too")


def test_nothing_is_written_when_the_space_changes_meanwhile(
    db: dbapi.Connection, rows: np.ndarray, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = module._compute

    def disturbed(*args: object) -> list[module.Row]:
        found = compute(*args)  # type: ignore[arg-type]
        db.execute("delete from vectors where item_id = 7")
        db.commit()
        return found

    monkeypatch.setattr(module, "_compute", disturbed)
    with pytest.raises(UserError, match="changed during this run"):
        project_space(db, "s", method="pca", n_components=3)
    assert db.execute("select count(*) from projection_points").fetchone() == (0,)
    assert db.execute("select count(*) from spaces").fetchone() == (1,)
    assert db.execute("select status from runs").fetchone() == ("failed",)


@pytest.mark.parametrize("method", ["umap", "tsne", "pca"])
def test_replay_gives_the_same_result(db: dbapi.Connection, rows: np.ndarray, method: str) -> None:
    result = project_space(db, "s", method=method, min_dist=0.3, perplexity=6.0)
    assert replay(db, result.run_id).is_same


@pytest.mark.parametrize("method", ["umap", "tsne"])
def test_without_a_seed_a_map_is_made_and_says_that_it_cannot_be_repeated(
    db: dbapi.Connection, rows: np.ndarray, method: str
) -> None:
    result = project_space(db, "s", method=method, random_state=None)
    assert result.counts == {"items": 40}
    recorded = db.execute(
        "select seed, json_type(parameters_json, '$.random_state') from runs where id = ?",
        (result.run_id,),
    ).fetchone()
    assert recorded == (None, "null")
    with pytest.raises(CannotReplay, match=f"run {result.run_id} was made without a seed"):
        replay(db, result.run_id)


def test_refusals_leave_no_run(db: dbapi.Connection, rows: np.ndarray) -> None:
    with pytest.raises(LookupError, match="there is no space 't'"):
        project_space(db, "t")
    with pytest.raises(SqlFunctionError, match="at most 6 components, not 9"):
        project_space(db, "s", method="pca", n_components=9)
    assert db.execute("select count(*) from runs").fetchone() == (0,)


def test_a_seed_and_none_exclude_each_other(rows: np.ndarray, database: Path) -> None:
    words = ["project", str(database), "s", "--no-seed"]
    made = CliRunner().invoke(cli, words)
    assert made.exit_code == 0, made.output
    refused = CliRunner().invoke(cli, [*words, "--seed", "1"])
    assert refused.exit_code != 0
    assert "--seed and --no-seed exclude each other" in str(refused.exception)


def test_command(db: dbapi.Connection, rows: np.ndarray, database: Path, tmp_path: Path) -> None:
    arguments = ["project", str(database), "s", "--method", "pca", "--n-components", "3"]
    outcome = CliRunner().invoke(cli, arguments, catch_exceptions=False)
    assert outcome.exit_code == 0
    assert "new space     s/pca-3d" in outcome.output
    assert f"next: nearsql cluster {database} s/pca-3d" in outcome.output
    missing = tmp_path / "missing.db"
    with pytest.raises(dbapi.OperationalError, match="there is no file"):
        CliRunner().invoke(cli, ["project", str(missing), "s"], catch_exceptions=False)
    assert not missing.exists()
