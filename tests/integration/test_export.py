"""`nearsql export`: every file read back and compared with what SQL says."""

import csv
import json
import math
import shutil
import signal
import sqlite3
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from click.testing import CliRunner, Result
from gallery import COLOURS, IMAGES, SCRIPT, TEXTS, Gallery, build

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import export, rows, tables
from nearsql.pipeline.export.datamapplot_files import UNLABELLED, hover_text
from nearsql.pipeline.export.folder import new_folder
from nearsql.pipeline.export.rows import Item
from nearsql.pipeline.runs import immediate, run, space_input
from nearsql.udfs import connection, dbapi

LEVELS = "select item_id, level, cluster, cluster_name, probability, outlier_score, is_assigned"


@pytest.fixture(scope="module")
def once(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The gallery, with what it has none of: a second level, an assigned item, odd texts and metadata."""
    made = build(tmp_path_factory.mktemp("export") / "gallery.db")
    db = connection.connect(made.path)
    with immediate(db):
        for label in range(2):
            parent = db.execute(
                "select id from clusters where run_id = ? and level = 1 and label = 0",
                (made.clusters,),
            ).fetchone()[0]
            db.execute(
                "insert into clusters (run_id, level, label, parent_id, size, birth_lambda)"
                " values (?, 2, ?, ?, 10, ?)",
                (made.clusters, label, parent, math.inf),
            )
        db.execute(
            "insert into memberships (run_id, level, item_id, cluster_id, probability, is_assigned)"
            " select m.run_id, 2, m.item_id, c.id, 0.1 + 0.2, m.item_id > 18"
            " from memberships m join clusters c on c.run_id = m.run_id and c.level = 2"
            " and c.label = m.item_id % 2 where m.run_id = ? and m.item_id <= 20",
            (made.clusters,),
        )
        db.execute(
            "update projection_points set placed_by_run_id = ? where run_id = ? and item_id = 4",
            (made.projection, made.projection),
        )
        db.execute("update items set metadata_json = ? where id = 3", ('{"a": [1, 2.50, "é☃"]}',))
        db.execute("insert into item_labels values (91, 'tone, \"of\" voice', 'a\nb', 'tests')")
    db.close()
    return made


@pytest.fixture
def painted(once: Gallery, tmp_path: Path) -> Gallery:
    """A copy of it, to be changed."""
    return replace(once, path=Path(shutil.copy(once.path, tmp_path / "gallery.db")))


@pytest.fixture
def opened(painted: Gallery) -> Any:
    db = connection.connect(painted.path)
    yield db
    db.close()


@pytest.fixture(autouse=True)
def _several_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """A hundred items are several batches."""
    monkeypatch.setattr(rows, "BATCH", 7)
    monkeypatch.setattr(rows.batches, "__defaults__", (7,))
    monkeypatch.setattr(tables, "BATCH", 2)


def nearsql_export(*words: object) -> Result:
    return CliRunner().invoke(cli, ["export", *map(str, words)])


def memberships(db: dbapi.Connection, run_id: int) -> dict[int, dict[int, tuple]]:
    """item -> level -> (cluster, name, probability, outlier_score, is_assigned), by the public view."""
    found: dict[int, dict[int, tuple]] = {}
    rows = db.execute(f"{LEVELS} from embedding_clusters where run_id = ?", (run_id,)).fetchall()
    for item, level, *rest in rows:
        found.setdefault(item, {})[level] = tuple(rest)
    return found


def points(db: dbapi.Connection, run_id: int) -> dict[int, tuple[float, float]]:
    rows = db.execute("select item_id, x, y from projection_points where run_id = ?", (run_id,))
    return {item: (x, y) for item, x, y in rows}


def json_items(folder: Path) -> list[dict]:
    index = json.loads((folder / "index.json").read_text("utf-8"))
    names = [file["name"] for file in index["files"] if file["name"].startswith("items")]
    return [item for name in names for item in json.loads((folder / name).read_text("utf-8"))]


# -- json ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("page_size", [10_000, 96, 95, 10, 1])
def test_json_holds_what_sql_says(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path, page_size: int
) -> None:
    done = nearsql_export(painted.path, "--to", tmp_path / "out", "--page-size", page_size)
    assert done.exit_code == 0, done.output
    found = json_items(tmp_path / "out")
    expected = opened.execute(
        "select id, kind, collection, sequence_number, uri, content as text, width, height, created_at"
        " from items order by id"
    )
    names = [column[0] for column in expected.description]
    assert [[item[name] for name in names] for item in found] == [list(row) for row in expected]
    of_run, on_map = memberships(opened, painted.clusters), points(opened, painted.projection)
    for item in found:
        labels = opened.execute(
            "select name, value from item_labels where item_id = ?", (item["id"],)
        )
        assert item["labels"] == dict(labels.fetchall())
        (metadata,) = opened.execute(
            "select metadata_json from items where id = ?", (item["id"],)
        ).fetchone()
        assert item["metadata"] == json.loads(metadata)
        assert [(m["run"], m["x"], m["y"], m["is_placed"]) for m in item["maps"]] == (
            [(painted.projection, *on_map[item["id"]], item["id"] == 4)]
            if item["id"] in on_map
            else []
        )
        assert {c["run"] for c in item["clusters"]} <= {painted.clusters}
        assert {
            c["level"]: (c["cluster"], c["probability"], c["outlier_score"], int(c["is_assigned"]))
            for c in item["clusters"]
        } == {level: (place[0], *place[2:]) for level, place in of_run.get(item["id"], {}).items()}
    noise = [item for item in found for c in item["clusters"] if c["cluster"] is None]
    assert len(noise) >= IMAGES // 10
    pages = -(-(IMAGES + TEXTS) // page_size)
    files = sorted(path.name for path in (tmp_path / "out").iterdir())
    if pages == 1:
        assert files == ["clusters.json", "index.json", "items.json"]
    else:
        assert files == [
            *("clusters.json", "index.json"),
            *(f"items-{page:04}.json" for page in range(1, pages + 1)),
        ]


def test_the_index_says_what_is_where(painted: Gallery, tmp_path: Path) -> None:
    nearsql_export(painted.path, "--to", tmp_path / "out", "--page-size", 50)
    index = json.loads((tmp_path / "out" / "index.json").read_text("utf-8"))
    assert index["items"] == IMAGES + TEXTS
    for file in index["files"]:
        path = tmp_path / "out" / file["name"]
        held = json.loads(path.read_text("utf-8"))
        assert file["rows"] == len(held)
        assert file["bytes"] == path.stat().st_size
        if file["name"].startswith("items"):
            assert (file["first_id"], file["last_id"]) == (held[0]["id"], held[-1]["id"])
    (drawn,), (clustering,) = index["maps"], index["clusterings"]
    assert drawn["run"] == painted.projection
    assert (drawn["space"], drawn["method"], drawn["points"], drawn["placed"]) == (
        *("paint/space", "pca", IMAGES, 1),
    )
    assert (clustering["run"], clustering["seed"]) == (painted.clusters, 7)
    assert clustering["parameters"] == {"min_cluster_size": 5, "min_samples": 3}
    assert clustering["levels"] == [
        {"level": 1, "clusters": 3, "items": IMAGES, "noise": IMAGES // 10, "assigned": 0},
        {"level": 2, "clusters": 2, "items": 20, "noise": 0, "assigned": 2},
    ]


def test_clusters_have_names_parents_and_places(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    opened.execute(
        "insert into cluster_labels (cluster_id, name, description, category, strength, method)"
        " select id, 'newest', 'why', 'what', 7.5, 'tests' from clusters where level = 1 and label = 1"
    )
    opened.commit()
    export(opened, tmp_path / "out")
    found = json.loads((tmp_path / "out" / "clusters.json").read_text("utf-8"))
    assert [(c["run"], c["level"], c["cluster"], c["parent"], c["name"]) for c in found] == [
        (painted.clusters, 1, 0, None, None),
        (painted.clusters, 1, 1, None, "newest"),
        (painted.clusters, 1, 2, None, f"blue {SCRIPT}"),
        (painted.clusters, 2, 0, 0, None),
        (painted.clusters, 2, 1, 0, None),
    ]
    assert (found[1]["description"], found[1]["category"], found[1]["strength"]) == (
        *("why", "what", 7.5),
    )
    assert [c["exemplar_item_id"] for c in found] == [1, 31, 61, None, None]
    on_map, of_run = points(opened, painted.projection), memberships(opened, painted.clusters)
    for cluster in found:
        places = [
            on_map[item]
            for item, levels in of_run.items()
            if levels.get(cluster["level"], (None,))[0] == cluster["cluster"]
        ]
        (centre,) = cluster["centres"]
        assert centre["run"] == painted.projection
        assert (centre["x"], centre["y"]) == pytest.approx(tuple(np.mean(places, axis=0)))


# -- tables ----------------------------------------------------------------------------------------------


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
    l.category, l.strength, c.size, c.exemplar_item_id, c.birth_lambda
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
    assert clusters[-1]["birth_lambda"] == math.inf
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


# -- datamapplot -----------------------------------------------------------------------------------------


def test_datamapplot_reads_it_back_and_draws_it(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    done = nearsql_export(painted.path, "--to", tmp_path / "out", "--format", "datamapplot")
    assert done.exit_code == 0, done.output
    data = np.load(tmp_path / "out" / "map.npz")  # refuses pickles
    on_map, of_run = points(opened, painted.projection), memberships(opened, painted.clusters)
    assert data["item_ids"].tolist() == sorted(on_map)
    assert [tuple(point) for point in data["coordinates"].tolist()] == [
        on_map[item] for item in sorted(on_map)
    ]
    assert data["levels"].tolist() == [2, 1]
    layers = [data[f"names_{level}"][data[f"codes_{level}"]] for level in data["levels"]]
    names = {
        1: {0: "Cluster 0", 1: "green", 2: f"blue {SCRIPT}"},
        2: {0: "Cluster 0", 1: "Cluster 1"},
    }
    for level, layer in zip((2, 1), layers, strict=True):
        assert layer.tolist() == [
            UNLABELLED
            if of_run[item].get(level, (None,))[0] is None
            else names[level][of_run[item][level][0]]
            for item in sorted(on_map)
        ]
    with (tmp_path / "out" / "map.csv").open(encoding="utf-8", newline="") as file:
        table = list(csv.DictReader(file))
    assert [int(row["item_id"]) for row in table] == data["item_ids"].tolist()
    assert [(float(row["x"]), float(row["y"])) for row in table] == [
        tuple(point) for point in data["coordinates"].tolist()
    ]
    assert [[row["level_2"], row["level_1"]] for row in table] == np.array(layers).T.tolist()
    assert table[-1]["hover"] == "item90.png"

    import matplotlib as mpl

    mpl.use("Agg")
    import datamapplot

    figure, axes = datamapplot.create_plot(
        data["coordinates"], layers[1], font_family="DejaVu Sans", use_system_fonts=True
    )
    drawn = {text.get_text().replace("\n", " ") for text in axes.texts}
    assert "green" in drawn
    assert UNLABELLED not in drawn
    figure.savefig(tmp_path / "map.png", dpi=50)
    assert (tmp_path / "map.png").stat().st_size > 1000


def test_names_that_datamapplot_would_take_for_one_are_told_apart(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    for label, name in enumerate(("twice", "twice", UNLABELLED)):
        opened.execute(
            "insert into cluster_labels (cluster_id, name, method)"
            " select id, ?, 'tests' from clusters where run_id = ? and level = 1 and label = ?",
            (name, painted.clusters, label),
        )
    long = "x" * 300
    opened.execute(
        "insert into cluster_labels (cluster_id, name, method)"
        " select id, ?, 'tests' from clusters where run_id = ? and level = 2",
        (long, painted.clusters),
    )
    opened.commit()
    export(opened, tmp_path / "out", format="datamapplot")
    data = np.load(tmp_path / "out" / "map.npz")
    assert data["names_1"].tolist() == [
        *(UNLABELLED, "twice (0)", "twice (1)", f"{UNLABELLED} (2)"),
    ]
    short = "x" * 99 + "…"
    assert data["names_2"].tolist() == [UNLABELLED, f"{short} (0)", f"{short} (1)"]


def test_what_is_shown_of_an_item() -> None:
    def item(**values: Any) -> Item:
        return Item(**{**dict.fromkeys(("uri", "text", "width", "height")), **given, **values})

    given = {"id": 7, "kind": "text", "collection": "c", "sequence_number": 0}
    given |= {"created_at": "", "metadata_json": "{}"}
    assert hover_text(item(text=" two\n\nlines ")) == "two lines"
    assert hover_text(item(text="é" * 1000)) == "é" * 199 + "…"
    assert hover_text(item(uri="folder/a b.jpg")) == "a b.jpg"
    assert hover_text(item()) == "item 7"


def test_which_map_and_which_clustering(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    def pair(**options: Any) -> tuple[int, int]:
        result = export(opened, tmp_path / "out", format="datamapplot", overwrite=True, **options)
        return result.chosen.clusterings[0].id, result.chosen.maps[0].id

    def add(kind: str, space: str, method: str) -> int:
        inputs = [space_input(opened, space)]
        with run(opened, kind, parameters={"method": method}, inputs=inputs) as made:
            if kind == "project":
                opened.execute(
                    "insert into projection_points (run_id, item_id, x, y) values (?, 91, 0, 1)",
                    (made.id,),
                )
            else:
                opened.execute(
                    "insert into memberships (run_id, item_id) values (?, 91)", (made.id,)
                )
            opened.commit()
        return made.id

    assert pair() == (painted.clusters, painted.projection)
    words = add("cluster", "words/space", "topics")
    assert pair() == (painted.clusters, painted.projection)  # of words there is no map yet
    with pytest.raises(UserError, match=f"no map of space 'words/space', which run {words} clust"):
        pair(runs=[words])
    assert pair(runs=[words, painted.projection]) == (words, painted.projection)
    drawn = add("project", "words/space", "umap")
    assert pair() == (words, drawn)
    assert pair(runs=[painted.clusters]) == (painted.clusters, painted.projection)
    assert pair(runs=[painted.projection]) == (painted.clusters, painted.projection)
    assert pair(runs=[drawn]) == (words, drawn)
    with pytest.raises(UserError, match="one clustering on one map: name one run of each"):
        pair(runs=[words, painted.clusters])


def test_datamapplot_needs_a_map_and_clusters(
    database: Path, db: dbapi.Connection, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no space with both a map and a clustering: `nearsql clu"):
        export(db, tmp_path / "out", format="datamapplot")
    assert list(tmp_path.iterdir()) == [database] or not (tmp_path / "out").exists()


# -- which items and runs --------------------------------------------------------------------------------


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


# -- the folder ------------------------------------------------------------------------------------------


def test_the_same_file_gives_the_same_bytes(opened: dbapi.Connection, tmp_path: Path) -> None:
    for format_ in ("json", "csv", "parquet", "datamapplot"):
        for copy in "ab":
            export(opened, tmp_path / copy / format_, format=format_)
        for file in (tmp_path / "a" / format_).iterdir():
            assert file.read_bytes() == (tmp_path / "b" / format_ / file.name).read_bytes()


def test_a_folder_with_anything_in_it_is_refused(painted: Gallery, tmp_path: Path) -> None:
    out = tmp_path / "out"
    out.mkdir()
    assert nearsql_export(painted.path, "--to", out).exit_code == 0  # empty: nothing is lost
    before = {file.name: file.read_bytes() for file in out.iterdir()}
    done = nearsql_export(painted.path, "--to", out, "--format", "csv")
    assert str(done.exception) == (
        f"{out} is not empty: name another folder, or replace an earlier export with --overwrite"
    )
    assert {file.name: file.read_bytes() for file in out.iterdir()} == before
    assert (
        nearsql_export(painted.path, "--to", out, "--format", "csv", "--overwrite").exit_code == 0
    )
    assert sorted(file.name for file in out.iterdir()) == [
        "clusters.csv",
        "index.json",
        "items.csv",
    ]
    (out / "notes.txt").write_text("mine")
    done = nearsql_export(painted.path, "--to", out, "--overwrite")
    assert str(done.exception).startswith(f"{out} holds 'notes.txt', which no export put there")
    assert (out / "notes.txt").read_text() == "mine"
    assert (out / "items.csv").exists()
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []


@pytest.mark.parametrize(
    "index",
    [None, "", "[]", "{}", '{"format": "another"}', '{"format": "nearsql export"}', "[" * 9999],
)
def test_what_is_no_export_is_never_overwritten(
    opened: dbapi.Connection, tmp_path: Path, index: str | None
) -> None:
    folder = tmp_path / "home"
    folder.mkdir()
    (folder / "photo.jpg").write_bytes(b"dear to me")
    if index is not None:
        (folder / "index.json").write_text(index)
    with pytest.raises(UserError, match="which no export put there"):
        export(opened, folder, overwrite=True)
    assert (folder / "photo.jpg").read_bytes() == b"dear to me"


def test_a_file_is_no_folder(painted: Gallery, tmp_path: Path) -> None:
    (tmp_path / "out").write_text("mine")
    done = nearsql_export(painted.path, "--to", tmp_path / "out", "--overwrite")
    assert str(done.exception) == (
        f"{tmp_path / 'out'} is a file: name a folder that does not exist yet"
    )
    assert (tmp_path / "out").read_text() == "mine"


def test_a_link_to_a_folder_stays_a_link(opened: dbapi.Connection, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    export(opened, tmp_path / "link")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real" / "items.json").exists()


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_leaves_nothing_behind(tmp_path: Path, error: type[BaseException]) -> None:
    with new_folder(tmp_path / "out") as first:
        (first / "index.json").write_text('{"format": "nearsql export", "files": []}')
    for overwrite in (False, True):
        place = tmp_path / ("out" if overwrite else "other")
        with pytest.raises(error), new_folder(place, overwrite=overwrite) as made:
            (made / "half").write_text("written")
            raise error
    assert [path.name for path in tmp_path.iterdir()] == ["out"]
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["index.json"]


def test_killed_midway_the_folder_is_not_there(painted: Gallery, tmp_path: Path) -> None:
    program = (
        "import os, signal\n"
        "from nearsql.pipeline.export import export, run, files\n"
        "from nearsql.udfs import connection\n"
        "import nearsql.pipeline.export.run as run\n"
        "def stop(*arguments): os.kill(os.getpid(), signal.SIGKILL)\n"
        "run.write_index = stop\n"
        f"export(connection.connect({str(painted.path)!r}), {str(tmp_path / 'out')!r})\n"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True)
    assert done.returncode == -signal.SIGKILL, done.stderr
    assert not (tmp_path / "out").exists()
    (partial,) = [path for path in tmp_path.iterdir() if path.name.startswith(".out.partial-")]
    assert (partial / "items.json").exists()
    assert nearsql_export(painted.path, "--to", tmp_path / "out").exit_code == 0


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


def test_pyarrow_is_asked_for_in_a_sentence(
    opened: dbapi.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(UserError, match=r"needs pyarrow: `pip install nearsql\[parquet\]`"):
        export(opened, tmp_path / "out", format="parquet")
    assert not (tmp_path / "out").exists()
