"""`nearsql assign`: items that a clustering did not see, given to its clusters."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster import assign as module
from nearsql.pipeline.cluster import cluster_spaces, held_out
from nearsql.pipeline.cluster.assign import assign
from nearsql.pipeline.cluster.levels import cluster_levels
from nearsql.pipeline.console import UserError
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError

Fill = Callable[..., int]


def blobs(n: int = 240, seed: int = 0) -> np.ndarray:
    """Three groups of points, and every tenth anywhere."""
    rng = np.random.default_rng(seed)
    centres = np.array([[0.0, 0.0], [20.0, 0.0], [0.0, 20.0]])
    rows = centres[rng.integers(0, 3, n)] + rng.normal(size=(n, 2))
    rows[::10] = rng.uniform(-30, 50, (len(rows[::10]), 2))
    return rows.astype(np.float32)


@pytest.fixture
def run(db: dbapi.Connection, add_space: Fill) -> int:
    """A clustering of every third item of 240."""
    add_space("s", blobs())
    (result,) = cluster_spaces(db, ["s"], min_cluster_size=6, min_samples=3, downsample=3)
    assert result.run_id is not None
    return result.run_id


PLACES = """\
select m.item_id, c.label from memberships m left join clusters c on c.id = m.cluster_id
where m.run_id = ? and m.level = ? and m.is_assigned = ? order by m.item_id
"""


def test_each_item_goes_where_cluster_assign_says(db: dbapi.Connection, run: int) -> None:
    members = db.execute("select * from memberships").fetchall()
    clusters = db.execute("select * from clusters").fetchall()
    result = assign(db, run)
    rows = db.execute(PLACES, (run, 1, 1)).fetchall()
    assert rows == [
        (item, cluster)
        for item, cluster in db.execute(
            "select id, cluster_assign(?, vector_of('s', id)) from items where (id - 1) % 3 order by id",
            (run,),
        )
    ]
    noise = sum(label is None for _, label in rows)
    assert 0 < noise < 40
    assert result.counts["assigned"] == len(rows) == 160
    assert (result.counts["joined"], result.counts["noise"]) == (160 - noise, noise)
    # What was there is as it was.
    assert db.execute("select * from memberships where not is_assigned").fetchall() == members
    assert db.execute("select * from clusters").fetchall() == clusters
    assert db.execute(
        "select distinct assigned_by_run_id, outlier_score, core_distance"
        " from memberships where is_assigned"
    ).fetchall() == [(result.run_id, None, None)]
    probabilities = db.execute(
        "select item_id, probability from memberships where is_assigned order by item_id"
    ).fetchall()
    assert all(probability is not None for _, probability in probabilities)
    assert (
        probabilities
        == db.execute(
            "select id, probability from cluster_assignments(?) order by id", (run,)
        ).fetchall()
    )
    assert db.execute("select items, assigned from clustering_results").fetchone() == (240, 160)
    assert db.execute(
        "select kind, name, input_run_id from run_inputs where run_id = ? order by id",
        (result.run_id,),
    ).fetchall() == [("run", f"cluster {run}", run), ("space", "s", None)]


def test_there_is_nothing_to_do_twice_and_new_items_come_later(
    db: dbapi.Connection, add_space: Fill, run: int
) -> None:
    assign(db, run)
    again = assign(db, run)
    assert (again.run_id, again.counts) == (None, {"assigned": 0})
    before = db.execute("select * from memberships").fetchall()
    space = db.execute("select id from spaces").fetchone()[0]
    db.execute(
        "insert into items (id, kind, collection, sha256, content, sequence_number)"
        " values (999, 'text', 't', ?, 'x', 998)",
        ("f" * 64,),
    )
    db.execute(
        "insert into vectors (space_id, item_id, vector)"
        " select space_id, 999, vector from vectors where item_id = 1 and space_id = ?",
        (space,),
    )
    db.commit()
    later = assign(db, run)
    assert later.run_id is not None
    assert later.counts["assigned"] == 1
    after = db.execute("select * from memberships").fetchall()
    assert set(before) < set(after)
    assert len(after) == len(before) + 1


def test_a_run_without_its_assignments(db: dbapi.Connection, run: int) -> None:
    before = db.execute("select * from memberships").fetchall()
    made = assign(db, run).run_id
    db.execute("delete from runs where id = ?", (made,))
    db.commit()
    assert db.execute("select * from memberships").fetchall() == before
    made = assign(db, run).run_id
    db.execute("delete from runs where id = ?", (run,))
    db.commit()
    assert db.execute("select count(*) from memberships").fetchone() == (0,)
    assert made is not None
    with pytest.raises(CannotReplay, match=r"the clustering that run \d+ added to is deleted"):
        replay(db, made)


def test_it_goes_on_where_it_was_stopped(
    db: dbapi.Connection, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 25)
    write, calls = module._write, []

    def stop(*arguments: object) -> None:
        calls.append(arguments)
        if len(calls) == 4:
            raise KeyboardInterrupt
        write(*arguments)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_write", stop)
    with pytest.raises(KeyboardInterrupt):
        assign(db, run)
    assert db.execute("select count(*) from memberships where is_assigned").fetchone() == (75,)
    stopped = db.execute("select max(id), status from runs").fetchone()
    assert stopped[1] == "interrupted"
    monkeypatch.setattr(module, "_write", write)
    result = assign(db, run)
    assert (result.run_id, result.counts["assigned"]) == (stopped[0], 160)
    assert replay(db, stopped[0]).is_same
    pieces = db.execute(PLACES, (run, 1, 1)).fetchall()
    db.execute("delete from runs where id = ?", stopped[:1])
    db.commit()
    assign(db, run)
    assert db.execute(PLACES, (run, 1, 1)).fetchall() == pieces


def test_it_stops_when_vectors_change_and_goes_on(
    db: dbapi.Connection, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_BLOCK", 25)
    compute, calls = module._compute, []

    def disturb(*arguments: object) -> list[module.Assignment]:
        rows = compute(*arguments)  # type: ignore[arg-type]
        calls.append(rows)
        if len(calls) == 3:
            db.execute("delete from vectors where item_id = 240")
            db.commit()
        return rows

    monkeypatch.setattr(module, "_compute", disturb)
    with pytest.raises(UserError, match="the vectors of space 's' changed during this run"):
        assign(db, run)
    assert db.execute("select count(*) from memberships where is_assigned").fetchone() == (50,)
    result = assign(db, run)
    assert result.counts["assigned"] == 159 - 50
    both = "select count(distinct assigned_by_run_id), count(*) from memberships where is_assigned"
    assert db.execute(both).fetchone() == (2, 159)


def test_no_transaction_is_open_while_computing(
    db: dbapi.Connection, run: int, database: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    compute = module._compute

    def beside(*arguments: object) -> list[module.Assignment]:
        rows = compute(*arguments)  # type: ignore[arg-type]
        assert not db.in_transaction
        other = dbapi.connect(database, timeout=0)
        other.execute("insert into metadata (key, value) values (hex(randomblob(8)), '1')")
        other.commit()
        other.close()
        return rows

    monkeypatch.setattr(module, "_compute", beside)
    monkeypatch.setattr(module, "_BLOCK", 50)
    assert assign(db, run).counts["assigned"] == 160


@pytest.mark.parametrize("seed_rules", [False, True])
def test_levels_follow_the_member(db: dbapi.Connection, add_space: Fill, seed_rules: bool) -> None:
    rng = np.random.default_rng(3)
    centres = np.concatenate([rng.normal(size=(6, 3)) * 2 + offset for offset in (0, 40)])
    rows = centres[rng.integers(0, 12, 1600)] + rng.normal(size=(1600, 3)) * 0.2
    add_space("s", rows.astype(np.float32))
    (result,) = cluster_levels(db, ["s"], downsample=2, seed_rules=seed_rules)
    assert result.run_id is not None
    made = assign(db, result.run_id)
    assert made.run_id is not None
    assert made.counts["assigned"] == 800
    places = {
        level: dict(db.execute(PLACES, (result.run_id, level, 0)).fetchall()) for level in (1, 2, 3)
    }
    db.execute(
        "create temp table hanging as select * from cluster_assignments(?)", (result.run_id,)
    )
    for level in (1, 2, 3):
        for item, label in db.execute(PLACES, (result.run_id, level, 1)).fetchall():
            cluster, member = db.execute(
                "select cluster, member from hanging where id = ?", (item,)
            ).fetchone()
            assert label == (None if cluster is None else places[level][member])
    assert replay(db, made.run_id).is_same
    assert db.execute(
        "select distinct level, probability is null from memberships where is_assigned order by level"
    ).fetchall() == [(1, 0), (2, 1), (3, 1)]
    # Every assigned item is within the parent of its cluster.
    assert db.execute(
        "select count(*) from memberships m join clusters c on c.id = m.cluster_id"
        " join memberships above on above.run_id = m.run_id and above.item_id = m.item_id"
        " and above.level = m.level - 1"
        " where m.is_assigned and above.cluster_id is not c.parent_id"
    ).fetchone() == (0,)


def test_replay(db: dbapi.Connection, run: int) -> None:
    made = assign(db, run).run_id
    assert made is not None
    assert replay(db, made).is_same
    db.execute("delete from memberships where item_id = 2")
    db.commit()
    assert not replay(db, made).is_same


def test_replay_of_what_an_older_nearsql_made(db: dbapi.Connection, run: int) -> None:
    """Before clusters had a max_lambda: what was assigned had no probabilities."""
    db.execute("update clusters set max_lambda = null")
    db.commit()
    made = assign(db, run).run_id
    assert made is not None
    assert db.execute(
        "select count(*), count(probability) from memberships where is_assigned"
    ).fetchone() == (160, 0)
    assert db.execute(
        "select count(*), count(probability) from cluster_assignments(?)", (run,)
    ).fetchone() == (160, 0)
    assert replay(db, made).is_same
    assert replay(db, run).is_same


def test_what_cannot_be_assigned_to(db: dbapi.Connection, run: int) -> None:
    with pytest.raises(SqlFunctionError, match="there is no run 99"):
        assign(db, 99)
    made = assign(db, run).run_id
    assert made is not None
    with pytest.raises(SqlFunctionError, match=f"run {made} is of kind 'assign', not 'cluster'"):
        assign(db, made)


def test_the_agreement_is_what_its_definition_says(
    db: dbapi.Connection, run: int, add_space: Fill
) -> None:
    """Everything again by SQL alone: hold out, cluster, store as a run, assign, compare."""
    counts = held_out.held_out_agreement(db, run)
    ids = np.array([i for (i,) in db.execute("select item_id from memberships order by 1")])
    rng = np.random.default_rng(held_out._SEED)
    sample = np.sort(rng.choice(ids, len(ids), replace=False))
    held = set(sample[rng.choice(len(ids), 12, replace=False)].tolist())
    together = dict(db.execute(PLACES, (run, 1, 0)).fetchall())
    # A space of those kept, in which the held out are the ones that a downsample leaves out.
    db.execute("update items set sequence_number = 1")
    db.executemany(
        "update items set sequence_number = 0 where id = ?",
        [(int(i),) for i in sample if int(i) not in held],
    )
    db.commit()
    (smaller,) = cluster_spaces(db, ["s"], min_cluster_size=6, min_samples=3, downsample=2)
    assert smaller.counts["sampled"] == 68
    names: dict[int | None, int | None] = {None: None}
    kept = dict(db.execute(PLACES, (smaller.run_id, 1, 0)).fetchall())
    for label in set(kept.values()) - {None}:
        inside = [together[item] for item, of in kept.items() if of == label]
        names[label] = max(set(inside), key=inside.count)
    assigned = dict(
        db.execute("select id, cluster from cluster_assignments(?)", (smaller.run_id,)).fetchall()
    )
    same = sum(names[assigned[item]] == together[item] for item in held)
    same_kept = sum(names[label] == together[item] for item, label in kept.items())
    assert counts == {
        "held_out": 12,
        "held_out_of": 80,
        "held_out_agreement": round(same / 12, 4),
        "kept_agreement": round(same_kept / 68, 4),
    }
    assert counts["held_out_agreement"] > 0.7


def test_the_agreement_of_many_is_measured_on_some(
    db: dbapi.Connection, run: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(held_out, "AT_MOST", 60)
    counts = held_out.held_out_agreement(db, run)
    assert (counts["held_out"], counts["held_out_of"]) == (9, 60)
    assert counts["held_out_agreement"] > 0.5
    assert held_out.held_out_agreement(db, run) == counts


@settings(max_examples=15, deadline=None, suppress_health_check=list(HealthCheck))
@given(st.integers(2, 30), st.integers(1, 4), st.sampled_from(["l2", "cosine"]), st.integers(0, 99))
def test_small_and_odd_spaces(
    db: dbapi.Connection, add_space: Fill, n: int, downsample: int, metric: str, seed: int
) -> None:
    for table in ("runs", "spaces", "items"):
        db.execute(f"delete from {table}")
    rng = np.random.default_rng(seed)
    add_space("s", rng.integers(-2, 3, (n, 2)).astype(np.float32), metric=metric)
    (result,) = cluster_spaces(db, ["s"], min_cluster_size=2, downsample=downsample)
    if result.run_id is None:
        return
    made = assign(db, result.run_id)
    assert made.counts["assigned"] == n - result.counts["sampled"]
    assert db.execute("select count(*) from memberships").fetchone() == (n,)


def test_the_commands(db: dbapi.Connection, run: int, database: Path) -> None:
    def call(*words: str) -> str:
        outcome = CliRunner().invoke(cli, [*words], catch_exceptions=False)
        assert outcome.exit_code == 0, outcome.output
        return outcome.output

    said = call("assign", str(database), str(run))
    assert f"run {run + 1}: s into run {run}" in said
    assert "assigned     160" in said
    assert "% of 12 members held out were assigned to where clustering puts them" in said
    assert f"nothing to assign: run {run} has all items of s" in call(
        "assign", str(database), str(run)
    )
    said = call("cluster", str(database), "s", "--downsample", "4", "--assign")
    assert "run 4: s into run 3" in said
    said = call("cluster", str(database), "s", "--downsample", "4")
    assert f"next: nearsql assign {database} 5" in said
    counted = db.execute("select counts_json from runs where id = 4").fetchone()[0]
    assert json.loads(counted)["assigned"] == 180
    with pytest.raises(UserError, match="--assign does not go with --sweep"):
        CliRunner().invoke(
            cli, ["cluster", str(database), "s", "--sweep", "--assign"], catch_exceptions=False
        )
