"""`nearsql export` for datamapplot: read back, drawn, and of the right map and clustering."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from exported import memberships, nearsql_export, points
from gallery import SCRIPT, Gallery

from nearsql.pipeline.console import UserError
from nearsql.pipeline.export import export
from nearsql.pipeline.export.datamapplot_files import UNLABELLED, hover_text
from nearsql.pipeline.export.rows import Item
from nearsql.pipeline.runs import run, space_input
from nearsql.udfs import dbapi

pytestmark = pytest.mark.usefixtures("several_batches")


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
    with pytest.raises(UserError, match="one clustering is drawn on one map: name one run of each"):
        pair(runs=[words, painted.clusters])


def test_datamapplot_needs_a_map_and_clusters(
    database: Path, db: dbapi.Connection, tmp_path: Path
) -> None:
    with pytest.raises(UserError, match="no space with both a map and a clustering: `nearsql clu"):
        export(db, tmp_path / "out", format="datamapplot")
    assert list(tmp_path.iterdir()) == [database] or not (tmp_path / "out").exists()
