"""Runs over a selection: what they read, what they record, and when a replay is refused."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner

from nearsql.pipeline import neighbors as neighbors_module
from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster import cluster_spaces
from nearsql.pipeline.cluster.levels import cluster_levels
from nearsql.pipeline.cluster.sweep import sweep
from nearsql.pipeline.cluster.topics import cluster_topics
from nearsql.pipeline.console import UserError
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.project import project_space
from nearsql.pipeline.replay import CannotReplay, recorded_run, replay
from nearsql.pipeline.select import drop, select
from nearsql.pipeline.within import recorded_within, within_ids
from nearsql.udfs import dbapi

Fill = Callable[..., int]

ODD = "select id from items where id % 2 order by id desc"
ODDS = list(range(1, 81, 2))


@pytest.fixture
def filled(db: dbapi.Connection, add_space: Fill) -> dbapi.Connection:
    """Space `s` of eighty items in four groups, half of them in the selection `odd`."""
    rng = np.random.default_rng(0)
    centres = np.array([[0, 0, 0], [9, 0, 0], [0, 9, 0], [0, 0, 9]])
    add_space("s", centres[np.arange(80) // 2 % 4] + rng.normal(size=(80, 3)) / 2)
    select(db, "odd", sql=ODD)
    return db


def cluster(db: dbapi.Connection, within: str | None) -> int | None:
    return cluster_spaces(db, ["s"], within=within)[0].run_id


def levels(db: dbapi.Connection, within: str | None) -> int | None:
    return cluster_levels(db, ["s"], within=within, levels=2)[0].run_id


def topics(db: dbapi.Connection, within: str | None) -> int | None:
    return cluster_topics(db, ["s"], within=within)[0].run_id


def project(db: dbapi.Connection, within: str | None) -> int | None:
    return project_space(db, "s", method="pca", within=within).run_id


def stored_neighbors(db: dbapi.Connection, within: str | None) -> int | None:
    return neighbors(db, ["s"], 3, within)[0].run_id


KINDS = [cluster, levels, topics, project, stored_neighbors]
ROWS = {
    "cluster": "select level, item_id, cluster_id is null, probability from memberships where run_id = ?",
    "project": "select item_id, x, y from projection_points where run_id = ?",
    "neighbors": "select item_id, rank, neighbor_id, distance from neighbors where run_id = ?",
}


def rows(db: dbapi.Connection, run: int) -> list[tuple[Any, ...]]:
    (kind,) = db.execute("select kind from runs where id = ?", (run,)).fetchone()
    return sorted(db.execute(ROWS[kind], (run,)).fetchall())


@pytest.mark.parametrize("made_by", KINDS)
def test_a_run_reads_and_records_the_items(
    filled: dbapi.Connection, made_by: Callable[..., int]
) -> None:
    run = made_by(filled, "odd")
    (parameters,) = filled.execute(
        "select parameters_json from runs where id = ?", (run,)
    ).fetchone()
    found = within_ids(filled, "odd")
    assert found is not None
    assert found.ids.tolist() == ODDS
    recorded = {k: v for k, v in json.loads(parameters).items() if k.startswith("within")}
    assert recorded == {"within": "odd", "within_items": 40, "within_sha256": found.sha256}
    # Whoever names the same items gets the same.
    assert rows(filled, run) == rows(filled, made_by(filled, json.dumps(ODDS)))
    assert {row[1 if made_by in (cluster, levels, topics) else 0] for row in rows(filled, run)} == {
        *ODDS
    }
    assert replay(filled, run).is_same


@pytest.mark.parametrize("made_by", [cluster, project, stored_neighbors])
def test_a_replay_over_other_items_is_refused(
    filled: dbapi.Connection, made_by: Callable[..., int]
) -> None:
    run = made_by(filled, "odd")
    select(filled, "odd", ids=ODDS, replace=True)  # the same items, otherwise
    assert replay(filled, run).is_same
    select(filled, "odd", ids=[2, *ODDS[1:]], replace=True)
    with pytest.raises(
        CannotReplay, match="the selection 'odd', which has changed since: its items are 40, and"
    ):
        replay(filled, run)
    select(filled, "odd", ids=ODDS[1:], replace=True)
    with pytest.raises(CannotReplay, match="its items are 40 then, 39 now"):
        replay(filled, run)
    drop(filled, "odd")
    with pytest.raises(CannotReplay, match=r"the selection 'odd', which is no more$"):
        replay(filled, run)


def test_a_replay_asks_a_select_again(filled: dbapi.Connection) -> None:
    filled.execute(
        "insert into item_labels select id, 'odd', 'yes', 'tests' from items where id % 2"
    )
    filled.commit()
    run = cluster(filled, "select item_id from item_labels where name = 'odd'")
    assert run is not None
    assert replay(filled, run).is_same
    filled.execute("update item_labels set name = 'even' where item_id < 4")
    filled.commit()
    with pytest.raises(
        CannotReplay, match="its `within`, which has changed since: its items are 40 then, 38"
    ):
        replay(filled, run)
    filled.execute("delete from item_labels")
    filled.commit()
    with pytest.raises(CannotReplay, match=r"its `within`, which is no more: .* names no items"):
        replay(filled, run)


def test_a_record_that_says_nothing(filled: dbapi.Connection) -> None:
    run = cluster(filled, "odd")
    assert run is not None
    recorded = recorded_run(filled, run)
    for within in (5, ["odd"], {"a": 1}, "", "delete from items", "select 1; select 2"):
        parameters = {**recorded.parameters, "within": within}
        with pytest.raises(CannotReplay):
            recorded_within(filled, replace(recorded, parameters=parameters))
    for change in ({"within_items": None}, {"within_sha256": 7}):
        with pytest.raises(CannotReplay, match="which has changed since"):
            recorded_within(filled, replace(recorded, parameters={**recorded.parameters, **change}))
    assert filled.execute("select count(*) from items").fetchone() == (80,)


def test_over_all_items_nothing_is_recorded(filled: dbapi.Connection) -> None:
    for made_by in KINDS:
        run = made_by(filled, None)
        (parameters,) = filled.execute(
            "select parameters_json from runs where id = ?", (run,)
        ).fetchone()
        assert json.loads(parameters)["within"] is None
        assert "within_items" not in json.loads(parameters)


def test_a_graph_of_some_items_is_none_of_the_space(filled: dbapi.Connection) -> None:
    (some,) = neighbors(filled, ["s"], 20, "odd")
    assert some.counts == {"items": 40, "neighbors": 800}
    direct = "select id, rank, neighbor_id, distance from knn_graph('s', 20, 'odd')"
    assert rows(filled, some.run_id or 0) == sorted(filled.execute(direct).fetchall())
    assert neighbors_module.stored_neighbors(filled, "s", 3) is None
    assert cluster_spaces(filled, ["s"])[0].graph_run is None
    assert cluster_spaces(filled, ["s"], within="odd")[0].graph_run is None
    # It is there for who asks for it again, of these items and with no more neighbours.
    (again,) = neighbors(filled, ["s"], 20, ODD)
    assert (again.run_id, again.is_new) == (some.run_id, False)
    assert neighbors(filled, ["s"], 21, "odd")[0].is_new
    assert neighbors(filled, ["s"], 20)[0].is_new
    select(filled, "odd", ids=ODDS[1:], replace=True)
    assert neighbors(filled, ["s"], 20, "odd")[0].is_new


def test_a_stopped_graph_of_some_items_goes_on(
    filled: dbapi.Connection, monkeypatch: pytest.MonkeyPatch, small_blocks: None
) -> None:
    write = neighbors_module.write_block
    calls: list[Any] = []

    def stopping(*arguments: Any) -> None:
        if len(calls) == 2:
            raise KeyboardInterrupt
        calls.append(arguments)
        write(*arguments)

    monkeypatch.setattr(neighbors_module, "write_block", stopping)
    with pytest.raises(KeyboardInterrupt):
        neighbors(filled, ["s"], 3, "odd")
    (stopped,) = filled.execute("select max(id) from runs").fetchone()
    assert 0 < len(rows(filled, stopped)) < 120
    monkeypatch.setattr(neighbors_module, "write_block", write)
    (done,) = neighbors(filled, ["s"], 3, "odd")
    assert done.run_id == stopped
    assert 0 < done.counts["already"] < 40
    direct = "select id, rank, neighbor_id, distance from knn_graph('s', 3, 'odd')"
    assert rows(filled, stopped) == sorted(filled.execute(direct).fetchall())
    assert replay(filled, stopped).is_same


def test_downsamples_and_selections_together(filled: dbapi.Connection) -> None:
    (result,) = cluster_spaces(filled, ["s"], downsample=3, within="odd", min_cluster_size=2)
    both = {item for item in ODDS if (item - 1) % 3 == 0}
    assert result.counts["sampled"] == len(both)
    assert result.counts["total"] == 80
    assert {row[1] for row in rows(filled, result.run_id or 0)} == both
    (skipped,) = cluster_spaces(filled, ["s"], downsample=100, within="[3, 5]")
    assert skipped.skipped == (
        "--within and a downsample by 100 leaves 0 of 80 items, and 2 are needed"
    )
    direct = (
        "select min_cluster_size, clusters, noise from cluster_sweep('s', '[2, 5]', 5, 1, 'odd')"
    )
    found = [
        (r.min_cluster_size, r.clusters, r.noise)
        for r in sweep(filled, "s", sizes=[2, 5], within="odd")
    ]
    assert found == filled.execute(direct).fetchall()


def test_the_current_run_is_one_over_all(filled: dbapi.Connection) -> None:
    whole, some = cluster(filled, None), cluster(filled, "odd")
    current = "select run_id from current_runs where kind = 'cluster' order by 1"
    assert filled.execute(current).fetchall() == [(whole,), (some,)]
    again = cluster(filled, "odd")
    assert filled.execute(current).fetchall() == [(whole,), (again,)]


def test_the_commands(filled: dbapi.Connection, database: Path) -> None:
    def run(*words: str) -> Any:
        return CliRunner().invoke(
            cli, [words[0], str(database), "s", *words[1:], "--within", "odd"]
        )

    assert "sampled   40" in run("cluster").stderr
    assert "sampled  40" in run("cluster", "--levels", "2").stderr
    assert "within" in run("project", "--method", "pca").stderr
    assert "items      40" in run("neighbors", "-k", "2").stderr
    done = run("project", "--into", "1")
    assert str(done.exception).startswith("--within is for a new map")
    done = CliRunner().invoke(
        cli, ["cluster", str(database), "--loss-distance", "1", "--within", "odd"]
    )
    assert str(done.exception).startswith("--within does not go with --loss-distance")


@pytest.mark.parametrize(
    ("within", "message"),
    [
        ("even", "there is no selection 'even': the selections are odd"),
        ("[]", "--within '\\[\\]' names no items"),
        ("select id from items where 0", "names no items"),
        ("select 1; select 2", "must be one statement"),
        ("", "within must be a SELECT"),
    ],
)
def test_refusals(filled: dbapi.Connection, within: str, message: str) -> None:
    for made_by in KINDS:
        with pytest.raises(Exception, match=message) as raised:
            made_by(filled, within)
        assert isinstance(raised.value, UserError) or "SqlFunctionError" in repr(raised.value)
    assert filled.execute("select count(*) from runs").fetchone() == (0,)
