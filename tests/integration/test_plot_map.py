"""`nearsql plot map`: every point in its cluster's colour, names placed, labels with a legend."""

import math
import shutil
import sys
from contextlib import closing
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest
from click.testing import CliRunner
from exported import memberships, points
from gallery import COLOURS, SCRIPT, Gallery
from matplotlib.colors import to_hex

from nearsql.pipeline.cli import cli
from nearsql.pipeline.console import UserError
from nearsql.pipeline.plots import maps
from nearsql.pipeline.plots.look import NOISE, PALETTE, WITHOUT, Plot, spread_colours
from nearsql.pipeline.plots.maps import map_plot
from nearsql.pipeline.runs import run, space_input
from nearsql.udfs import connection, dbapi

PATHS = "{http://www.w3.org/2000/svg}"


def dots(plot: Plot) -> dict[tuple[float, float], str]:
    """place -> colour of each point drawn."""
    (collection,) = plot.figure.axes[0].collections
    places = [tuple(place) for place in np.asarray(collection.get_offsets()).tolist()]
    found = {
        place: to_hex(colour)
        for place, colour in zip(places, collection.get_facecolors(), strict=True)
    }
    assert len(found) == len(places)
    return found


def names(plot: Plot) -> set[str]:
    """The names that are drawn."""
    return {text.get_text().replace("\n", " ") for text in plot.figure.axes[0].texts} - {""}


def test_clusters_noise_and_what_was_not_clustered(
    painted: Gallery, opened: dbapi.Connection
) -> None:
    opened.execute("delete from memberships where run_id = ? and item_id = 5", (painted.clusters,))
    opened.commit()
    plot = map_plot(opened, painted.projection)
    on_map, of_run = points(opened, painted.projection), memberships(opened, painted.clusters)
    expected = {}
    for item, place in on_map.items():
        cluster = of_run[item][1][0] if 1 in of_run.get(item, {}) else "without"
        expected[place] = (
            WITHOUT if cluster == "without" else NOISE if cluster is None else PALETTE[cluster]
        )
    assert dots(plot) == expected
    assert names(plot) == {"Cluster 0", "green", f"blue {SCRIPT}"}
    assert plot.facts == {
        "clusters of run": str(painted.clusters),
        "points": 90,
        "clusters": 3,
        "noise": 9,
        "not clustered": 1,
    }
    title = plot.figure.get_suptitle()
    assert title == "pca map of paint/space: 90 points, 3 clusters, 9 noise, 1 not clustered"
    caption = plot.figure.get_supxlabel().replace("\n", " ")
    assert caption == (
        f"run {painted.projection}: components 2, method pca; clusters of run {painted.clusters}"
        " level 1: min_cluster_size 5, min_samples 3, seed 7"
    )
    # Names lie where their points are, or a line leads there.
    below = map_plot(opened, painted.projection, clustering=painted.clusters, level=2)
    assert names(below) == {"Cluster 0", "Cluster 1"}
    assert below.facts["not clustered"] == 71


def test_the_same_map_gives_the_same_bytes(painted: Gallery, tmp_path: Path) -> None:
    for name in ("one.svg", "two.svg", "one.png", "two.png"):
        words = ["plot", painted.path, "map", painted.projection, "--to", tmp_path / name]
        done = CliRunner().invoke(cli, [str(word) for word in words])
        assert done.exit_code == 0, (done.output, done.exception)
    for suffix in ("svg", "png"):
        assert (tmp_path / f"one.{suffix}").read_bytes() == (
            tmp_path / f"two.{suffix}"
        ).read_bytes()
    tree = ElementTree.parse(tmp_path / "one.svg")
    texts = " ".join("".join(e.itertext()) for e in tree.iter(f"{PATHS}text"))
    assert "green" in texts
    assert "pca map of paint/space" in texts
    assert "<script" not in (tmp_path / "one.svg").read_text("utf-8")
    assert len(list(tree.iter(f"{PATHS}use"))) >= 90  # points are shapes


def test_many_points_are_one_image(
    painted: Gallery, opened: dbapi.Connection, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "MOST_SHAPES", 50)
    for name, label in (("clusters.svg", None), ("label.svg", "colour")):
        map_plot(opened, painted.projection, label=label).save(tmp_path / name)
        tree = ElementTree.parse(tmp_path / name)
        assert len(list(tree.iter(f"{PATHS}image"))) == 1
        assert len(list(tree.iter(f"{PATHS}use"))) < 20


def test_a_label_has_a_legend(painted: Gallery, opened: dbapi.Connection) -> None:
    opened.execute("delete from item_labels where item_id in (1, 2) and name = 'colour'")
    opened.execute("update item_labels set value = '_dark' where item_id = 3 and name = 'colour'")
    opened.commit()
    plot = map_plot(opened, painted.projection, label="colour")
    (legend,) = plot.figure.legends
    entries = [text.get_text().strip() for text in legend.get_texts()]
    assert entries == ["_dark", *sorted(COLOURS), "without (2)"]
    colour = dict(zip(entries, PALETTE, strict=False)) | {None: WITHOUT}
    value = dict(
        opened.execute("select item_id, value from item_labels where name = 'colour'").fetchall()
    )
    on_map = points(opened, painted.projection)
    assert dots(plot) == {place: colour[value.get(item)] for item, place in on_map.items()}
    assert plot.facts["without the label"] == 2
    with pytest.raises(UserError, match=r"no item of the map of run .* has a label 'shape'"):
        map_plot(opened, painted.projection, label="shape")
    with pytest.raises(UserError, match="by --clusters or by --label, not by both"):
        map_plot(opened, painted.projection, label="colour", clustering=painted.clusters)


def test_more_values_than_colours_share_one(painted: Gallery, opened: dbapi.Connection) -> None:
    opened.execute("update item_labels set value = item_id % 25 where name = 'colour'")
    opened.commit()
    plot = map_plot(opened, painted.projection, label="colour")
    entries = [text.get_text().strip() for text in plot.figure.legends[0].get_texts()]
    # 90 items: 16 values have four items, the others three.
    assert entries == [*map(str, range(19)), "6 other values"]
    of_rest = sum(colour == PALETTE[-1] for colour in dots(plot).values())
    assert of_rest == 90 - sum(1 for item in range(1, 91) if item % 25 < 19)


def test_a_map_without_a_clustering_is_drawn_plainly(
    painted: Gallery, opened: dbapi.Connection
) -> None:
    with run(
        opened,
        "project",
        parameters={"method": "umap"},
        inputs=[space_input(opened, "words/space")],
    ) as made:
        opened.execute(
            "insert into projection_points (run_id, item_id, x, y) values (?, 91, 0, 1), (?, 92, 1, 1)",
            (made.id, made.id),
        )
        opened.commit()
    plot = map_plot(opened, made.id)
    assert dots(plot) == {(0.0, 1.0): PALETTE[0], (1.0, 1.0): PALETTE[0]}
    assert plot.figure.get_suptitle() == "umap map of words/space: 2 points"


def test_only_the_largest_clusters_are_named(
    painted: Gallery, opened: dbapi.Connection, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(maps, "MOST_NAMES", 2)
    opened.execute(
        "update memberships set cluster_id = null where run_id = ? and level = 1 and item_id > 80",
        (painted.clusters,),
    )
    opened.commit()
    plot = map_plot(opened, painted.projection)
    assert names(plot) == {"Cluster 0", "green"}
    assert plot.facts["named"] == 2
    assert PALETTE[2] in dots(plot).values()


def test_what_cannot_be_drawn(painted: Gallery, opened: dbapi.Connection) -> None:
    with pytest.raises(UserError, match="has no level 3: its levels are 1, 2"):
        map_plot(opened, painted.projection, level=3)
    with pytest.raises(UserError, match="is of kind 'cluster': `plot map` draws a map"):
        map_plot(opened, painted.clusters)
    with pytest.raises(UserError, match="is of kind 'project', not a clustering"):
        map_plot(opened, painted.projection, clustering=painted.projection)
    with pytest.raises(LookupError, match="there is no run 99"):
        map_plot(opened, painted.projection, clustering=99)
    opened.execute(
        "update projection_points set x = ? where run_id = ? and item_id = 7",
        (math.inf, painted.projection),
    )
    with pytest.raises(UserError, match="an item lies at inf, which cannot be drawn"):
        map_plot(opened, painted.projection)
    opened.execute("delete from projection_points where run_id = ?", (painted.projection,))
    with pytest.raises(UserError, match="has no points to draw"):
        map_plot(opened, painted.projection)
    opened.rollback()


@pytest.mark.parametrize(
    ("where", "n_clusters"),
    [
        ("x = 1, y = 2", 3),  # all in one place
        ("x = 1, y = 2", 1),
        ("x = (item_id - 1) / 30, y = 0", 3),  # one cluster exactly amid the others
        ("x = item_id", 1),
    ],
)
def test_names_find_a_place_wherever_the_points_lie(
    where: str, n_clusters: int, painted: Gallery, opened: dbapi.Connection, tmp_path: Path
) -> None:
    opened.execute(f"update projection_points set {where}")
    opened.execute(
        "update memberships set cluster_id = null where level = 1 and item_id > ?",
        (30 * n_clusters,),
    )
    opened.commit()
    plot = map_plot(opened, painted.projection)
    assert names(plot) == {"Cluster 0", "green", f"blue {SCRIPT}"} or n_clusters == 1
    assert "Cluster 0" in names(plot)
    plot.save(tmp_path / "one.svg")
    tree = ElementTree.parse(tmp_path / "one.svg")
    texts = ["".join(e.itertext()) for e in tree.iter(f"{PATHS}text")]
    assert "Cluster 0" in texts


def test_a_damaged_record_is_a_sentence(painted: Gallery, opened: dbapi.Connection) -> None:
    opened.execute("drop trigger runs_finished_never_change")
    for damaged in ("[1]", "[" * 900 + "]" * 900):
        for damaged_run in (painted.projection, painted.clusters):
            opened.execute(
                "update runs set parameters_json = iif(id = ?, ?, '{}')", (damaged_run, damaged)
            )
            with pytest.raises(UserError, match=f"record of run {damaged_run} cannot be read"):
                map_plot(opened, painted.projection)
    opened.rollback()


def test_without_datamapplot_a_sentence_says_what_to_install(
    painted: Gallery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "datamapplot", None)
    path = shutil.copy(painted.path, tmp_path / "copy.db")
    with closing(connection.connect(path, read_only=True)) as db:
        with pytest.raises(UserError, match=r"datamapplot, .* pip install 'nearsql\[plot\]'"):
            map_plot(db, painted.projection)
        assert map_plot(db, painted.projection, label="colour").facts["values"] == 3


def test_groups_of_one_colour_lie_far_apart() -> None:
    assert spread_colours([(i, 0) for i in range(5)], [1] * 5) == [0, 1, 2, 3, 4]
    middles = [(float(i), 0.0) for i in range(6)]
    given = spread_colours(middles, [9, 8, 7, 6, 5, 4], colours=3)
    # 3 is as far from 0 as may be, 4 from 1, 5 from 2.
    assert given == [0, 1, 2, 0, 1, 2]
