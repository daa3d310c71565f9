"""`nearsql export`: which items and runs, of which state of the file, and what is said of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import json_items, nearsql_export
from gallery import COLOURS, IMAGES, TEXTS, Gallery

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import export, rows
from nearsql.pipeline.runs import run
from nearsql.udfs import connection, dbapi

pytestmark = pytest.mark.usefixtures("several_batches")


def test_named_runs_take_their_items_only(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    result = export(opened, tmp_path / "out", runs=[painted.projection])
    assert [item["id"] for item in json_items(tmp_path / "out")] == list(range(1, IMAGES + 1))
    assert result.items == IMAGES
    assert all(not item["clusters"] and item["maps"] for item in json_items(tmp_path / "out"))
    assert json.loads((tmp_path / "out" / "clusters.json").read_text()) == []


def test_a_file_without_runs_exports_its_items(
    database: Path, db: dbapi.Connection, tmp_path: Path, add_space: Any
) -> None:
    add_space("s", np.zeros((3, 2)))
    for format_, name in (
        ("json", "items.json"),
        ("csv", "items.csv"),
        ("parquet", "items.parquet"),
    ):
        result = export(db, tmp_path / format_, format=format_)
        assert result.items == 3
        assert (tmp_path / format_ / name).exists()


def test_an_empty_file_exports_empty_files(db: dbapi.Connection, tmp_path: Path) -> None:
    export(db, tmp_path / "json")
    assert json.loads((tmp_path / "json" / "items.json").read_text()) == []
    export(db, tmp_path / "csv", format="csv")
    assert len((tmp_path / "csv" / "items.csv").read_text().splitlines()) == 1
    export(db, tmp_path / "parquet", format="parquet")


def test_refused_runs(painted: Gallery, opened: dbapi.Connection, tmp_path: Path) -> None:
    for run_id, sentence in (
        (99, "there is no run 99 in this file: see `nearsql runs`"),
        (
            painted.failed,
            f"run {painted.failed} is of kind 'embed': only maps ('project') and clusterings"
            + " ('cluster') can be exported",
        ),
    ):
        done = nearsql_export(painted.path, "--to", tmp_path / "out", "--run", run_id)
        assert done.exit_code == 1
        assert str(done.exception) == sentence
    with pytest.raises(RuntimeError, match="no"), run(opened, "cluster", parameters={}) as current:
        raise RuntimeError("no")
    done = nearsql_export(painted.path, "--to", tmp_path / "out", "--run", current.id)
    assert str(done.exception) == f"run {current.id} is failed: only a finished run can be exported"
    assert not (tmp_path / "out").exists()


def test_values_that_a_format_cannot_say(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    opened.execute(
        "update projection_points set x = 9e999 where item_id = 5 and run_id = ?",
        (painted.projection,),
    )
    opened.commit()
    with pytest.raises(UserError, match=r"^item 5 has an infinite number, and JSON has none"):
        export(opened, tmp_path / "out")
    with pytest.raises(UserError, match=r"^item 5 lies at .* cannot be drawn"):
        export(opened, tmp_path / "out", format="datamapplot")
    export(opened, tmp_path / "out", format="csv")


def test_a_member_of_another_runs_cluster_is_damage(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    opened.execute(
        "update memberships set level = 3 where item_id = 2 and level = 2 and run_id = ?",
        (painted.clusters,),
    )
    opened.commit()
    with pytest.raises(
        UserError, match=r"^item 2 of run .* is in a cluster of another run or level"
    ):
        export(opened, tmp_path / "out")


def test_an_export_is_one_state_of_the_file(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What another connection writes between two batches is not seen."""
    other = connection.connect(painted.path)
    read = rows._add_labels

    def then_write(db: Any, batch: Any, ids: str) -> None:
        other.execute("update items set uri = 'moved'")
        other.commit()
        read(db, batch, ids)

    monkeypatch.setattr(rows, "_add_labels", then_write)
    export(opened, tmp_path / "out")
    assert "moved" not in {item["uri"] for item in json_items(tmp_path / "out")}
    assert not opened.in_transaction
    assert opened.execute("select distinct uri from items").fetchall() == [("moved",)]
    other.close()


def test_the_file_is_only_read(painted: Gallery, tmp_path: Path) -> None:
    db = connection.connect(painted.path)
    before = list(db.iterdump())
    db.close()
    nearsql_export(painted.path, "--to", tmp_path / "out")
    db = connection.connect(painted.path)
    assert list(db.iterdump()) == before
    db.close()


def test_the_summary_counts(painted: Gallery, tmp_path: Path) -> None:
    said = nearsql_export(painted.path, "--to", tmp_path / "out").stderr
    assert f"items              {IMAGES + TEXTS}" in said
    assert f"map of run {painted.projection}       pca of paint/space, {IMAGES} points" in said
    assert f"clusters of run {painted.clusters}  {len(COLOURS)} > 2, unknown method of" in said
    assert f'next: jq ".[0]" {tmp_path / "out" / "items.json"}' in said
