"""Items that a map did not see, placed on it: in SQL, as runs, on the command line."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner

from nearsql.pipeline import place as module
from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.place import place
from nearsql.pipeline.project import project_space
from nearsql.pipeline.replay import CannotReplay, replay
from nearsql.udfs import dbapi
from nearsql.udfs.errors import SqlFunctionError

Fill = Callable[..., int]
WAYS = [("umap", 2), ("umap", 4), ("tsne", 2), ("pca", 2), ("pca", 3)]
ROWS = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)


def add_items(db: dbapi.Connection, space: str, rows: np.ndarray, first: int) -> None:
    """Items that come later."""
    for item, row in enumerate(rows.astype("<f4"), start=first):
        db.execute(
            "insert into items (id, kind, collection, sha256, content, sequence_number)"
            " values (?1, 'text', 'tests', printf('%064x', ?1), 'late', ?1)",
            (item,),
        )
        db.execute(
            "insert into vectors (space_id, item_id, vector)"
            " select id, ?, ? from spaces where name = ?",
            (item, row.tobytes(), space),
        )
    db.commit()


@pytest.fixture(params=["l2", "cosine"])
def space(request: pytest.FixtureRequest, add_space: Fill) -> str:
    add_space("s", ROWS[:40], metric=request.param)
    return "s"


def made_map(db: dbapi.Connection, method: str, n_components: int = 2) -> int:
    return project_space(db, "s", method=method, n_components=n_components, perplexity=5.0).run_id


@pytest.mark.parametrize(("method", "n_components"), WAYS)
def test_placed_points_are_the_functions_own(
    db: dbapi.Connection, space: str, method: str, n_components: int
) -> None:
    run = made_map(db, method, n_components)
    before = db.execute("select * from projection_points order by item_id").fetchall()
    assert place(db, run).run_id is None  # nothing to do
    add_items(db, "s", ROWS[40:], 41)
    result = place(db, run)
    assert result.counts == {"placed": 20}
    after = db.execute("select * from projection_points order by item_id").fetchall()
    assert after[:40] == before
    assert {row[4] for row in after[:40]} == {None}
    placed = db.execute("select id, x, y, vector from project_places(?) order by id", (run,))
    rows = placed.fetchall()
    assert after[40:] == [(run, item, x, y, result.run_id) for item, x, y, _ in rows]
    one_by_one = db.execute(
        "select v.item_id, project_place(?, v.vector) from vectors v join spaces s"
        " on s.id = v.space_id and s.name = 's' where v.item_id > 40 order by 1",
        (run,),
    ).fetchall()
    for (item, vector), (other, x, y, same) in zip(one_by_one, rows, strict=True):
        assert item == other
        np.testing.assert_allclose(
            np.frombuffer(vector, "<f4"), np.frombuffer(same, "<f4"), rtol=1e-6
        )
        assert (x, y) == tuple(np.frombuffer(same, "<f4")[:2].tolist())
    if n_components > 2:
        stored = db.execute(
            "select v.item_id, v.vector, v.run_id from vectors v join spaces s on s.id = v.space_id"
            " where s.run_id = ? and v.item_id > 40 order by 1",
            (run,),
        )
        assert stored.fetchall() == [(item, v, result.run_id) for item, _, _, v in rows]
    assert place(db, run).run_id is None
    assert replay(db, result.run_id).is_same


@pytest.mark.parametrize("method", ["umap", "tsne", "pca"])
def test_a_members_vector_is_placed_where_the_member_is(
    db: dbapi.Connection, space: str, method: str
) -> None:
    run = made_map(db, method)
    rows = db.execute(
        "select p.x, p.y, project_place(?1, v.vector) from projection_points p"
        " join vectors v on v.item_id = p.item_id where p.run_id = ?1",
        (run,),
    ).fetchall()
    assert len(rows) == 40
    for x, y, vector in rows:
        np.testing.assert_allclose(np.frombuffer(vector, "<f4"), (x, y), rtol=1e-5, atol=1e-6)
    assert db.execute("select project_place(?, null)", (run,)).fetchone() == (None,)


def test_pca_needs_no_members(db: dbapi.Connection, space: str) -> None:
    run = made_map(db, "pca", 3)
    shares = db.execute(
        "select axis, length(vector), variance_share from projection_axes where run_id = ?"
        " order by axis",
        (run,),
    ).fetchall()
    assert [(axis, size) for axis, size, _ in shares] == [(axis, 48) for axis in range(4)]
    assert shares[0][2] is None
    values = [share for _, _, share in shares[1:]]
    assert values == sorted(values, reverse=True)
    vector = ROWS[50].astype("<f4").tobytes()
    before = db.execute("select project_place(?, ?)", (run, vector)).fetchone()
    db.execute("delete from vectors where item_id < 30")
    assert db.execute("select project_place(?, ?)", (run, vector)).fetchone() == before
    db.execute("delete from projection_axes where run_id = ? and axis = 2", (run,))
    with pytest.raises(dbapi.OperationalError, match="has not stored the axes of its map"):
        db.execute("select project_place(?, ?)", (run, vector)).fetchone()


def test_changed_members_are_refused(db: dbapi.Connection, space: str) -> None:
    run = made_map(db, "umap")
    add_items(db, "s", ROWS[40:43], 41)
    db.execute("update vectors set vector = ? where item_id = 7", (ROWS[50].tobytes(),))
    db.commit()
    with pytest.raises(dbapi.OperationalError, match="the vector of item 7, a member of run"):
        db.execute("select * from project_places(?)", (run,)).fetchall()
    db.execute("delete from vectors where item_id = 7")
    db.commit()
    with pytest.raises(SqlFunctionError, match=r"item 7, a member of run .* has no vector"):
        place(db, run)


def test_a_stopped_run_goes_on(
    db: dbapi.Connection, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_map(db, "umap")
    add_items(db, "s", ROWS[40:], 41)
    expected = db.execute("select id, x, y from project_places(?) order by id", (run,)).fetchall()
    monkeypatch.setattr(module, "_BLOCK", 6)
    compute = module._compute
    calls = []

    def stopping(*args: object) -> object:
        calls.append(args)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return compute(*args)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "_compute", stopping)
    with pytest.raises(KeyboardInterrupt):
        place(db, run)
    (stopped,) = db.execute("select id from runs where status = 'interrupted'").fetchone()
    count = "select count(*) from projection_points where placed_by_run_id is not null"
    assert db.execute(count).fetchone() == (12,)
    result = place(db, run)
    assert result.run_id == stopped
    assert result.counts == {"placed": 20}
    stored = db.execute(
        "select item_id, x, y from projection_points where placed_by_run_id = ? order by item_id",
        (stopped,),
    ).fetchall()
    assert stored == expected
    assert replay(db, stopped).is_same


def test_what_was_written_stays_when_vectors_change_meanwhile(
    db: dbapi.Connection, space: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = made_map(db, "pca")
    add_items(db, "s", ROWS[40:52], 41)
    monkeypatch.setattr(module, "_BLOCK", 6)
    compute = module._compute

    def disturbed(db: dbapi.Connection, run: int, items: list[int]) -> object:
        rows = compute(db, run, items)
        if 47 in items:
            db.execute("delete from vectors where item_id = 41")
            db.commit()
        return rows

    monkeypatch.setattr(module, "_compute", disturbed)
    with pytest.raises(UserError, match="changed during this run"):
        place(db, run)
    monkeypatch.setattr(module, "_compute", compute)
    result = place(db, run)  # of other vectors: another run
    assert result.counts == {"placed": 6}
    runs = db.execute(
        "select placed_by_run_id, count(*) from projection_points"
        " where placed_by_run_id is not null group by 1 order by 1"
    ).fetchall()
    assert [count for _, count in runs] == [6, 6]
    assert runs[1][0] == result.run_id


def test_with_the_run_its_places_go(db: dbapi.Connection, space: str) -> None:
    run = made_map(db, "pca", 3)
    add_items(db, "s", ROWS[40:], 41)
    result = place(db, run)
    db.execute("delete from runs where id = ?", (result.run_id,))
    db.commit()
    assert db.execute("select count(*) from projection_points").fetchone() == (40,)
    assert db.execute("select count(*) from vectors").fetchone() == (60 + 40,)
    again = place(db, run)
    assert again.counts == {"placed": 20}
    db.execute("delete from runs where id = ?", (run,))
    db.commit()
    assert db.execute("select count(*) from projection_points").fetchone() == (0,)
    assert db.execute("select count(*) from projection_axes").fetchone() == (0,)
    with pytest.raises(CannotReplay, match=r"the map that run \d+ added to is deleted"):
        assert again.run_id is not None
        replay(db, again.run_id)


def test_other_runs_are_refused(db: dbapi.Connection, space: str) -> None:
    run = made_map(db, "pca")

    def error(sql: str) -> str:
        with pytest.raises(dbapi.OperationalError) as caught:
            db.execute(sql).fetchall()
        return str(caught.value)

    assert f"there is no run 77: maps have numbers, the newest are {run}" in error(
        "select project_place(77, zeroblob(24))"
    )
    db.execute(
        "insert into runs (id, kind, status, finished_at) values (50, 'embed', 'finished', 'now'),"
        " (51, 'project', 'interrupted', 'now')"
    )
    assert "run 50 is of kind 'embed', not 'project'" in error("select * from project_places(50)")
    assert "run 51 is interrupted" in error("select * from project_places(51)")
    assert "vector has 2 dimensions, not 6" in error(f"select project_place({run}, '[1, 2]')")
    assert "run must be a whole number" in error("select project_place('a', '[1, 2]')")
    db.commit()
    made = made_map(db, "umap", 4)
    db.execute("delete from spaces where run_id = ?", (made,))
    assert f"the space that run {made} made is deleted" in error(
        f"select project_place({made}, zeroblob(24))"
    )
    with pytest.raises(UserError, match=f"run {run} is a map of 's', not of 't'"):
        place(db, run, space="t")


def test_within_places_some(db: dbapi.Connection, space: str) -> None:
    run = made_map(db, "pca")
    add_items(db, "s", ROWS[40:], 41)
    some = db.execute("select id from project_places(?, '[3, 44, 45, 999]')", (run,)).fetchall()
    assert some == [(44,), (45,)]  # 3 is on the map


def test_command(db: dbapi.Connection, space: str, database: Path) -> None:
    run = made_map(db, "pca")
    add_items(db, "s", ROWS[40:], 41)
    words = ["project", str(database), "s", "--into", str(run)]
    outcome = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert outcome.exit_code == 0
    assert f"s into the map of run {run}" in outcome.output
    assert "placed  20" in outcome.output
    outcome = CliRunner().invoke(cli, words, catch_exceptions=False)
    assert f"nothing to place: run {run} has all items of s" in outcome.output
    with pytest.raises(UserError, match="--method is for a new map: --into places items"):
        CliRunner().invoke(cli, [*words, "--method", "umap"], catch_exceptions=False)
