"""The colours of a map's points: by cluster, label, score, metric, loss and SQL."""

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from gallery import COLOURS, IMAGES, PER_COLOUR, SCRIPT, Gallery
from judged_images import add_detector, add_images, judge
from map_routes import Maps, cluster_of, place, scattered
from served import Site, site

from nearsql.datasette_plugins.map_colours import METRICS, WITHOUT
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection


@pytest.fixture(scope="module")
def maps(gallery_site: Site) -> Maps:
    return Maps(gallery_site, "gallery")


def test_by_cluster(maps: Maps, gallery: Gallery) -> None:
    answer = maps.colours(gallery.projection, f"cluster:{gallery.clusters}:1")
    assert answer.header["kind"] == "codes"
    assert answer.codes == [cluster_of(i) for i in range(1, IMAGES + 1)]
    names = [(entry["name"], entry["items"]) for entry in answer.header["legend"]]
    assert names == [("cluster 0", 27), ("green", 27), (f"blue {SCRIPT}", 27)]
    assert (answer.header["noise"], answer.header["without"]) == (9, 0)
    assert answer.header["columns"]["codes"]["type"] == "uint8"


def test_by_a_level_that_there_is_not(maps: Maps, gallery: Gallery) -> None:
    answer = maps.colours(gallery.projection, f"cluster:{gallery.clusters}:7")
    assert set(answer.codes) == {WITHOUT}
    assert answer.header["legend"] == []
    assert answer.header["without"] == IMAGES


def test_by_label(maps: Maps, gallery: Gallery) -> None:
    answer = maps.colours(gallery.projection, "label:colour")
    names = {entry["code"]: entry["name"] for entry in answer.header["legend"]}
    assert [names[c] for c in answer.codes] == [
        COLOURS[(i - 1) // PER_COLOUR] for i in range(1, IMAGES + 1)
    ]
    # A label of items that this map does not hold: nothing of it is in the legend.
    answer = maps.colours(gallery.projection, "label:topic")
    assert answer.header["legend"] == []
    assert set(answer.codes) == {WITHOUT}


def test_by_outlier_score(maps: Maps, gallery: Gallery) -> None:
    answer = maps.colours(gallery.projection, f"outlier:{gallery.clusters}:1")
    expected = [((i - 1) % PER_COLOUR) / PER_COLOUR for i in range(1, IMAGES + 1)]
    assert np.array_equal(answer.columns["values"], np.array(expected, np.float32))
    assert answer.header["range"] == [0.0, 29 / 30]
    assert answer.header["without"] == 0


def test_plain_needs_no_column(maps: Maps, gallery: Gallery) -> None:
    answer = maps.colours(gallery.projection, "plain")
    assert answer.header["kind"] == "plain"
    assert answer.columns == {}
    assert answer.header["points"] == maps.columns(gallery.projection).header["points"]


# Of one image, each metric another number.
MEASURED = {
    "n_gt": 8, "n_pred": 7, "tp": 6, "fp": 5, "fn": 2, "mean_iou": 0.5, "mean_iou_gt": 0.25,
    "mean_conf": 0.75, "hit_freq": 0.125, "dice_score": 0.625, "flag_cat": 1, "flag_supercat": 0,
}  # fmt: skip


@pytest.fixture(scope="module")
def judged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[Maps, int, int]]:
    """A map of three images, of which a detector has judged two."""
    path = tmp_path_factory.mktemp("judged") / "judged.db"
    db = connection.create(path)
    add_images(db, 3)
    box = (0.0, 0.0, 10.0, 10.0)
    detector = judge(
        db,
        add_detector(db),
        {1: [("cat", box, 0.75, None)], 3: []},
        losses={1: (0.5, 1.0), 3: (4.0, 2.0)},
    )
    with run(db, "project", parameters={}) as current, immediate(db):
        place(db, current.id, scattered(3))
        db.execute(
            f"update image_metrics set {', '.join(f'{name} = ?' for name in MEASURED)} where item_id = 1",
            list(MEASURED.values()),
        )
    db.close()
    with site(path) as opened:
        yield Maps(opened, "judged"), current.id, detector


@pytest.mark.parametrize("metric", METRICS)
def test_by_metric(judged: tuple[Maps, int, int], metric: str) -> None:
    maps, projection, detector = judged
    answer = maps.colours(projection, f"metric:{detector}:{metric}")
    first, unjudged, _ = answer.columns["values"]
    assert first == MEASURED[metric]
    assert np.isnan(unjudged)


def test_a_metric_that_is_not_defined_is_no_number(judged: tuple[Maps, int, int]) -> None:
    maps, projection, detector = judged
    answer = maps.colours(projection, f"metric:{detector}:mean_iou")
    assert np.array_equal(answer.columns["values"], [0.5, np.nan, np.nan], equal_nan=True)
    assert answer.header["range"] == [0.5, 0.5]
    assert answer.header["without"] == 2
    answer = maps.colours(projection, f"metric:{detector}:n_pred")
    assert np.array_equal(answer.columns["values"], [7.0, np.nan, 0.0], equal_nan=True)


def test_by_loss(judged: tuple[Maps, int, int]) -> None:
    maps, projection, detector = judged
    answer = maps.colours(projection, f"loss:{detector}:box")
    assert np.array_equal(answer.columns["values"], [0.5, np.nan, 4.0], equal_nan=True)
    nothing = maps.colours(projection, f"loss:{detector}:seg")
    assert np.isnan(nothing.columns["values"]).all()
    assert nothing.header["range"] is None


def test_every_number_of_image_metrics_is_a_metric(tmp_path: Path) -> None:
    db = connection.create(tmp_path / "empty.db")
    numbers = {
        name
        for _, name, kind, *_ in db.execute("pragma table_info(image_metrics)")
        if kind in ("INTEGER", "REAL") and not name.endswith("_id")
    }
    db.close()
    assert set(METRICS) == set(MEASURED) == numbers


def test_by_sql_with_numbers(maps: Maps, gallery: Gallery) -> None:
    answer = maps.colours(
        gallery.projection,
        "sql:select id, case when id % 2 then id / 2.0 end from items where id > 80 order by id desc",
    )
    expected = [i / 2 if i > 80 and i % 2 else np.nan for i in range(1, IMAGES + 1)]
    assert np.array_equal(answer.columns["values"], np.array(expected), equal_nan=True)
    assert answer.header["range"] == [40.5, 44.5]
    assert answer.header["without"] == IMAGES - 5


def test_by_sql_with_texts(maps: Maps, gallery: Gallery) -> None:
    text = "select item_id, upper(value) from item_labels where value <> 'blue'"
    answer = maps.colours(gallery.projection, f"sql:{text}")
    legend = [(e["code"], e["name"], e["items"]) for e in answer.header["legend"]]
    assert legend == [(0, "GREEN", 30), (1, "RED", 30)]
    assert answer.codes == [1] * 30 + [0] * 30 + [WITHOUT] * 30
    # A text among numbers makes them all texts.
    answer = maps.colours(
        gallery.projection, "sql:select id, iif(id = 1, 'one', id % 2) from items where id <= 3"
    )
    legend = [(e["name"], e["items"]) for e in answer.header["legend"]]
    assert legend == [("0", 1), ("1", 1), ("one", 1)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("select id from items", "two columns, the item's id and its value, not 1"),
        ("select id, 1, 2 from items", "not 3"),
        ("select 'x', 1", "gave 'x'"),
        ("select 1.5, 1", "gave 1.5"),
        ("values (1, 2), (1, 3)", "gives item 1 2"),
        ("select 1, x'00'", "gives a BLOB"),
        ("select * from nowhere", "no such table: nowhere"),
        ("select :id, 1", "The SQL"),
        ("delete from items", "must begin with SELECT"),
        ("with a as (select 1) delete from items", "would write"),
        ("select 1, 2; delete from items", "must be one statement"),
        ("select id, 'text ' || id from items", "at most 5"),
    ],
)
def test_sql_that_gives_no_colours_is_400(
    maps: Maps, gallery: Gallery, text: str, said: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("nearsql.datasette_plugins.map_colours.MOST_TEXTS", 5)
    assert said in maps.problem(gallery.projection, "colours", by=f"sql:{text}")
    assert maps.columns(gallery.projection).header["total"] == IMAGES


def test_sql_that_takes_too_long_is_stopped(gallery: Gallery) -> None:
    endless = "with recursive n(i) as (select 1 union all select i + 1 from n) select i, i from n"
    with site(gallery.path, settings={"sql_time_limit_ms": 30}) as opened:
        maps = Maps(opened, "gallery")
        said = maps.problem(gallery.projection, "colours", by=f"sql:{endless}")
        assert "longer than 0.03 s" in said
        # Its limit was its own: what comes after has the limit of pages.
        assert maps.columns(gallery.projection).header["n"] == IMAGES


@pytest.mark.parametrize(
    "by",
    [
        "red", "cluster:x:1", "cluster:1", "outlier:1:-1", "cluster:1:" + "9" * 30, "label:", "sql: ",
        "loss:1:", "loss::box", "metric:x:tp", "plain:1", "cluster:²:1",
    ],
)  # fmt: skip
def test_an_unknown_colouring_is_400_with_a_sentence(maps: Maps, gallery: Gallery, by: str) -> None:
    assert f"not {by!r}" in maps.problem(gallery.projection, "colours", by=by)


def test_an_unknown_metric_names_those_there_are(maps: Maps, gallery: Gallery) -> None:
    said = maps.problem(gallery.projection, "colours", by="metric:1:run_id")
    assert "no metric 'run_id'" in said
    assert "mean_iou_gt" in said
