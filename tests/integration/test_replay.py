"""`nearsql replay`: what it says of a run that comes out the same, otherwise, or not at all."""

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from replayed import blobs

from nearsql.pipeline.cli import cli
from nearsql.pipeline.cluster.run import cluster_spaces
from nearsql.pipeline.neighbors import neighbors
from nearsql.pipeline.replay import CannotReplay, Change, replay
from nearsql.udfs import dbapi

TOLD = "update runs set {} where id = ?"


@pytest.fixture
def clustered(db: dbapi.Connection, add_space: Any) -> int:
    """Run 1: clusters of the space `s`."""
    add_space("s", blobs(90))
    (result,) = cluster_spaces(db, ["s"], min_cluster_size=5, min_samples=3)
    db.execute("drop trigger runs_finished_never_change")
    db.commit()
    return int(result.run_id or 0)


def say(db: dbapi.Connection, run_id: int, columns: str, *values: Any) -> None:
    """Changes what is on a run's record."""
    db.execute(TOLD.format(columns), (*values, run_id))
    db.commit()


def nearsql(db: dbapi.Connection, *args: object) -> Result:
    (path,) = (row[2] for row in db.execute("pragma database_list") if row[1] == "main")
    return CliRunner().invoke(cli, ["replay", str(path), *map(str, args)])


def test_the_same_result(db: dbapi.Connection, clustered: int) -> None:
    outcome = replay(db, clustered)
    assert outcome.is_same
    assert (outcome.different_rows, outcome.changes) == (0, [])
    assert [(t.table, t.stored, t.again) for t in outcome.tables][1] == ("memberships", 90, 90)
    recorded = db.execute(
        "select kind, parent_run_id, result_sha256, counts_json from runs where id = ?",
        (outcome.run_id,),
    ).fetchone()
    assert recorded[:3] == ("replay", clustered, outcome.expected_sha256)
    counts = json.loads(recorded[3])
    assert counts == {"same": 1, "rows": sum(t.rows for t in outcome.tables), "different_rows": 0}
    shown = nearsql(db, clustered)
    assert shown.exit_code == 0
    assert shown.output.startswith(f"run {clustered}: the same result\n")
    assert "differ" not in shown.output
    assert json.loads(nearsql(db, clustered, "--json").stdout) == []


def test_a_different_result_says_which_rows(db: dbapi.Connection, clustered: int) -> None:
    (text,) = db.execute("select parameters_json from runs where id = ?", (clustered,)).fetchone()
    say(db, clustered, "parameters_json = ?", json.dumps({**json.loads(text), "min_samples": 6}))
    before = db.execute("select * from memberships order by item_id").fetchall()
    outcome = replay(db, clustered, first=5)
    assert not outcome.is_same
    _, members = outcome.tables
    assert members.stored == members.again == 90
    # By hand: cluster with the other parameter, and compare item by item.
    (other,) = cluster_spaces(db, ["s"], min_cluster_size=5, min_samples=6)
    sql = (
        "select a.item_id, a.probability, b.probability, a.core_distance, b.core_distance, x.label,"
        " y.label, a.outlier_score, b.outlier_score from memberships a"
        " join memberships b on b.item_id = a.item_id and b.run_id = ?"
        " left join clusters x on x.id = a.cluster_id left join clusters y on y.id = b.cluster_id"
        " where a.run_id = ? order by a.item_id"
    )
    pairs = db.execute(sql, (other.run_id, clustered)).fetchall()
    changed = [p for p in pairs if (p[1], p[3], p[5], p[7]) != (p[2], p[4], p[6], p[8])]
    assert members.changed == len(changed) > 0
    assert members.largest["core_distance"] == max(abs(p[3] - p[4]) for p in pairs)
    assert len(members.first) == 5
    first = members.first[-1]
    assert first.row["item_id"] in {p[0] for p in changed}
    # Nothing is touched.
    assert (
        db.execute(
            "select * from memberships where run_id = ? order by item_id", (clustered,)
        ).fetchall()
        == before
    )

    shown = nearsql(db, clustered, "--first", 3)
    assert shown.exit_code == 1
    assert f"run {clustered}: a DIFFERENT result" in shown.output
    assert f"memberships: {members.changed:,} of 90 rows differ" in shown.output
    assert f"core_distance by {members.largest['core_distance']:.3g} at most" in shown.output
    assert "versions, machine and device are those of then" in shown.output
    assert "item_id" in shown.output.split("\n\n")[1]
    data = nearsql(db, clustered, "--first", 3, "--json")
    assert data.exit_code == 1
    rows = json.loads(data.stdout)
    assert list(rows[0]) == ["table", "row", "column", "stored", "again", "difference"]
    assert rows[-1]["row"].keys() == {"level", "item_id"}
    assert len([row for row in rows if row["table"] == "memberships"]) == 3
    lines = nearsql(db, clustered, "--first", 3, "--nl").stdout.splitlines()
    assert [json.loads(line) for line in lines] == rows
    table = list(csv.DictReader(io.StringIO(nearsql(db, clustered, "--first", 3, "--csv").stdout)))
    assert [row["table"] for row in table] == [row["table"] for row in rows]
    assert [json.loads(row["row"]) for row in table] == [row["row"] for row in rows]
    assert nearsql(db, clustered, "--first", 0, "--csv").stdout.splitlines() == [
        "table,row,column,stored,again,difference"
    ]


def test_rows_that_somebody_changed_are_told(db: dbapi.Connection, add_space: Any) -> None:
    add_space("s", blobs(40))
    run_id = int(neighbors(db, ["s"], k=3)[0].run_id or 0)
    db.execute("update neighbors set distance = distance + 0.5 where item_id = 7 and rank = 2")
    db.execute("delete from neighbors where item_id = 9")
    db.execute("delete from neighbors where item_id = 40 and rank > 1")
    db.commit()
    outcome = replay(db, run_id)
    assert outcome.is_same
    (table,) = outcome.tables
    assert (table.stored, table.again) == (115, 120)
    assert (table.changed, table.missing, table.added) == (1, 0, 5)
    assert table.largest["distance"] == pytest.approx(0.5)
    shown = nearsql(db, run_id)
    assert shown.exit_code == 0
    assert "the same result" in shown.output
    assert "but what is stored is no longer what the run wrote:" in shown.output
    assert "neighbors: 6 of 120 rows differ (1 changed, 5 found and not stored)" in shown.output


def test_what_else_changed_is_told(db: dbapi.Connection, clustered: int) -> None:
    (versions,) = db.execute("select versions_json from runs where id = ?", (clustered,)).fetchone()
    then = json.loads(versions) | {"numpy": "1.0", "left": "2.0", "not/a package": "3"}
    say(
        db,
        clustered,
        "versions_json = ?, device = 'cuda: NVIDIA H100', process = 'elsewhere 12'",
        json.dumps(then),
    )
    outcome = replay(db, clustered)
    assert outcome.is_same
    numpy = json.loads(versions)["numpy"]
    (here,) = db.execute("select process from runs where id = ?", (outcome.run_id,)).fetchone()
    assert outcome.changes == [
        Change("left", "2.0", None),
        Change("not/a package", "3", None),
        Change("numpy", "1.0", numpy),
        Change("machine", "elsewhere", here.rpartition(" ")[0]),
        Change("device", "cuda: NVIDIA H100", "cpu"),
    ]
    shown = nearsql(db, clustered)
    assert f"  numpy: 1.0 then, {numpy} now\n" in shown.output
    assert "  left: 2.0 then, none now\n" in shown.output
    assert "  device: cuda: NVIDIA H100 then, cpu now\n" in shown.output


def test_a_record_without_what_is_needed_is_a_sentence(
    db: dbapi.Connection, clustered: int
) -> None:
    say(db, clustered, "parameters_json = ?", '{"space": "s"}')
    with pytest.raises(CannotReplay, match="clustered by None"):
        replay(db, clustered)
    (result,) = neighbors(db, ["s"], k=3)
    say(db, int(result.run_id or 0), "parameters_json = ?", '{"method": "exact"}')
    with pytest.raises(CannotReplay, match="does not say 'k'"):
        replay(db, int(result.run_id or 0))
    say(db, clustered, "kind = 'guess'")
    shown = nearsql(db, clustered)
    assert (shown.exit_code, shown.stdout) == (1, "")
    say(db, clustered, "kind = 'detect', versions_json = '{}'")
    with pytest.raises(CannotReplay):
        replay(db, clustered)


def test_settings_that_would_be_refused_now_are_a_sentence(
    db: dbapi.Connection, clustered: int
) -> None:
    (text,) = db.execute("select parameters_json from runs where id = ?", (clustered,)).fetchone()
    for name, value in (("selection", "best"), ("min_cluster_size", 1), ("epsilon", -1)):
        other = json.dumps({**json.loads(text), name: value})
        say(db, clustered, "parameters_json = ?", other)
        with pytest.raises(CannotReplay, match=f"run {clustered} would be refused now: .*{name}"):
            replay(db, clustered)


def test_a_renamed_space_is_found_and_a_changed_one_refused(
    db: dbapi.Connection, clustered: int, tmp_path: Path
) -> None:
    db.execute("update spaces set name = 'renamed'")
    db.commit()
    assert replay(db, clustered).is_same
    db.execute("delete from vectors where item_id = 3")
    db.commit()
    with pytest.raises(CannotReplay, match="its vectors have changed"):
        replay(db, clustered)
