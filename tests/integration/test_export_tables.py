"""`nearsql export` as CSV and Parquet: every table read back and compared with what SQL says."""

import csv
import math
import sqlite3
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from exported import nearsql_export
from gallery import IMAGES, TEXTS, Gallery

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import export
from nearsql.udfs import dbapi

pytestmark = pytest.mark.usefixtures("several_batches")


def expected_table(db: dbapi.Connection, painted: Gallery) -> list[dict[str, Any]]:
    """The items as a table, by SQL alone."""
    run_id, drawn = painted.clusters, painted.projection
    levels = ", ".join(
        f"""
        (select cluster from embedding_clusters where item_id = i.id and run_id = {run_id}
            and level = {level}) as cluster_{run_id}_{level},
        (select cluster_name from embedding_clusters where item_id = i.id and run_id = {run_id}
            and level = {level}) as cluster_{run_id}_{level}_name,
        (select cluster is null from embedding_clusters where item_id = i.id and run_id = {run_id}
            and level = {level}) as cluster_{run_id}_{level}_is_noise,
        (select probability from embedding_clusters where item_id = i.id and run_id = {run_id}
            and level = {level}) as cluster_{run_id}_{level}_probability,
        (select outlier_score from embedding_clusters where item_id = i.id and run_id = {run_id}
            and level = {level}) as cluster_{run_id}_{level}_outlier_score,
        (select is_assigned from embedding_clusters where item_id = i.id and run_id = {run_id}
            and level = {level}) as cluster_{run_id}_{level}_is_assigned"""
        for level in (1, 2)
    )
    cursor = db.execute(
        f"""select id, kind, collection, sequence_number, uri, content as text, width, height,
        created_at, json(metadata_json) as metadata_json,
        (select value from item_labels where item_id = i.id and name = 'colour') as label_colour,
        (select value from item_labels where item_id = i.id and name like 'tone%')
            as "label_tone, ""of"" voice",
        (select value from item_labels where item_id = i.id and name = 'topic') as label_topic,
        (select x from projection_points where item_id = i.id and run_id = {drawn}) as map_{drawn}_x,
        (select y from projection_points where item_id = i.id and run_id = {drawn}) as map_{drawn}_y,
        (select placed_by_run_id is not null from projection_points
            where item_id = i.id and run_id = {drawn}) as map_{drawn}_is_placed,
        {levels}
        from items i order by id"""
    )
    names = [column[0] for column in cursor.description]
    return [dict(zip(names, row, strict=True)) for row in cursor]


CLUSTERS = """
select c.run_id as run, c.level, c.label as cluster, p.label as parent, l.name, l.description,
    l.category, l.strength, c.size, c.exemplar_item_id, c.birth_lambda, c.max_lambda
from clusters c left join clusters p on p.id = c.parent_id
left join cluster_labels l on l.cluster_id = c.id order by 1, 2, 3
"""


def test_csv_holds_what_sql_says(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    done = nearsql_export(painted.path, "--to", tmp_path / "out", "--format", "csv")
    assert done.exit_code == 0, done.output
    with (tmp_path / "out" / "items.csv").open(encoding="utf-8", newline="") as file:
        found = list(csv.DictReader(file))
    expected = expected_table(opened, painted)
    assert found == [
        {name: "" if value is None else str(value) for name, value in row.items()}
        for row in expected
    ]
    assert {row['label_tone, "of" voice'] for row in found} == {"", "a\nb"}
    with (tmp_path / "out" / "clusters.csv").open(encoding="utf-8", newline="") as file:
        clusters = list(csv.reader(file))
    cursor = opened.execute(CLUSTERS)
    assert clusters[0][:-2] == [column[0] for column in cursor.description]
    assert [row[:-2] for row in clusters[1:]] == [
        ["" if value is None else str(value) for value in row] for row in cursor
    ]


def test_parquet_holds_what_sql_says(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    from pyarrow import parquet

    done = nearsql_export(painted.path, "--to", tmp_path / "out", "--format", "parquet")
    assert done.exit_code == 0, done.output
    table = parquet.read_table(tmp_path / "out" / "items.parquet")
    assert table.to_pylist() == expected_table(opened, painted)  # True == 1
    types = {field.name: str(field.type) for field in table.schema}
    assert types["id"] == types[f"cluster_{painted.clusters}_1"] == "int64"
    assert types[f"map_{painted.projection}_x"] == "double"
    assert types[f"cluster_{painted.clusters}_1_is_noise"] == "bool"
    assert types["text"] == types["label_colour"] == "string"
    clusters = parquet.read_table(tmp_path / "out" / "clusters.parquet").to_pylist()
    cursor = opened.execute(CLUSTERS)
    names = [column[0] for column in cursor.description]
    assert [[row[name] for name in names] for row in clusters] == [list(row) for row in cursor]
    assert [clusters[n]["birth_lambda"] for n in (-2, -1)] == [0.25, math.inf]
    assert [clusters[n]["max_lambda"] for n in (-2, -1)] == [1.5, None]
    assert clusters[0][f"map_{painted.projection}_x"] is not None


def test_csv_goes_into_sqlite_utils(painted: Gallery, tmp_path: Path) -> None:
    done = nearsql_export(painted.path, "--to", tmp_path / "out", "--format", "csv")
    hint = next(line for line in done.stderr.splitlines() if "next:" in line)
    assert str(tmp_path / "out" / "items.csv") in hint
    subprocess.run(
        [sys.executable, "-m", "sqlite_utils", *hint.split()[2:]], cwd=tmp_path, check=True
    )
    inserted = sqlite3.connect(tmp_path / "new.db").execute("select count(*), sum(id) from items")
    n = IMAGES + TEXTS
    assert inserted.fetchone() == (n, n * (n + 1) // 2)


def test_too_many_labels_for_a_table(opened: dbapi.Connection, tmp_path: Path) -> None:
    opened.executemany(
        "insert into item_labels values (1, ?, 'x', 'tests')", [(f"l{n}",) for n in range(500)]
    )
    with pytest.raises(UserError, match="the items have 503 different labels"):
        export(opened, tmp_path / "out", format="csv")
    assert not (tmp_path / "out").exists()
    export(opened, tmp_path / "out", format="json")


def test_pyarrow_is_asked_for_in_a_sentence(
    opened: dbapi.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs pyarrow: `pip install nearsql\[parquet\]`"):
        export(opened, tmp_path / "out", format="parquet")
    assert not (tmp_path / "out").exists()
