"""The columns of a map: the right points and colours, in few bytes, sampled evenly, never stale."""

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from html import unescape
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import numpy as np
import pytest
from gallery import COLOURS, IMAGES, PER_COLOUR, SCRIPT, Gallery
from judged_images import add_detector, add_images, judge
from served import Site, site

from nearsql.datasette_plugins import map_columns, map_points
from nearsql.datasette_plugins.map_colours import METRICS, NOISE, WITHOUT
from nearsql.datasette_plugins.map_points import Points, Window, sample
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi

TYPES = {"uint8": "u1", "uint16": "<u2", "uint32": "<u4", "float32": "<f4", "float64": "<f8"}


@dataclass
class Answer:
    """An answer of the columns or colours route, read as the format says."""

    header: dict[str, Any]
    columns: dict[str, np.ndarray]
    etag: str

    @property
    def ids(self) -> list[int]:
        return [int(i) for i in self.columns["ids"]]

    @property
    def codes(self) -> list[int]:
        return [int(c) for c in self.columns["codes"]]

    @property
    def places(self) -> np.ndarray:
        return np.stack([self.columns["x"], self.columns["y"]], axis=1)


def unpacked(body: bytes, etag: str = "") -> Answer:
    """The header, and its columns as the numbers that they stand for."""
    length = int.from_bytes(body[:4], "little")
    header = json.loads(body[4 : 4 + length])
    start = 4 + length
    assert start % 8 == 0
    columns = {}
    end = start
    for name, described in header["columns"].items():
        at, kind = start + described["at"], np.dtype(TYPES[described["type"]])
        assert at == end, "columns lie one after the other"
        assert at % 8 == 0
        stored = np.frombuffer(body, kind, header["n"], at)
        end = at + stored.nbytes + -stored.nbytes % 8
        if "range" in described:
            low, high = described["range"]
            stored = low + stored / np.iinfo(kind).max * (high - low)
        if "first" in described:
            stored = described["first"] + np.cumsum(stored, dtype=np.int64)
        if "shift" in described:
            stored = stored.astype(np.int64) + described["shift"]
        columns[name] = stored
    assert len(body) == end
    return Answer(header, columns, etag)


class Maps:
    """The map routes of a site."""

    def __init__(self, opened: Site, name: str) -> None:
        self.site = opened
        self.root = f"/-/nearsql/{name}/map"

    def get(self, run_id: int, what: str = "columns", **asked: Any) -> Any:
        return self.site.get(f"{self.root}/{run_id}/{what}?{urlencode(asked)}")

    def columns(self, run_id: int, **asked: Any) -> Answer:
        return self._answer(self.get(run_id, **asked))

    def colours(self, run_id: int, by: str, **asked: Any) -> Answer:
        return self._answer(self.get(run_id, "colours", by=by, **asked))

    def problem(self, run_id: int, what: str = "columns", status: int = 400, **asked: Any) -> str:
        response = self.get(run_id, what, **asked)
        assert response.status_code == status
        assert response.headers["content-type"].startswith("text/html")
        return unescape(response.text)

    @staticmethod
    def _answer(response: Any) -> Answer:
        assert response.status_code == 200, response.text
        assert response.headers["content-type"] == "application/octet-stream"
        assert response.headers["x-content-type-options"] == "nosniff"
        return unpacked(response.content, response.headers["etag"])


@pytest.fixture(scope="module")
def maps(gallery_site: Site) -> Maps:
    return Maps(gallery_site, "gallery")


@pytest.fixture
def drawn(tmp_path: Path) -> Iterator[Callable[..., tuple[dbapi.Connection, int, Maps]]]:
    """Makes a database with texts of these ids, and a map with these places; and serves it."""
    opened: list[Any] = []

    def make(places: dict[int, tuple[float, float]]) -> tuple[dbapi.Connection, int, Maps]:
        db = connection.create(tmp_path / "drawn.db")
        opened.append(db)
        with immediate(db):
            db.executemany(
                "insert into items (id, kind, collection, sha256, content, sequence_number)"
                " values (?, 'text', 'c', printf('%064x', ?), 'x', ?)",
                [(i, n, n) for n, i in enumerate(places)],
            )
        with run(db, "project", parameters={}) as current, immediate(db):
            place(db, current.id, places)
        opened.append(Site(tmp_path / "drawn.db"))
        return db, current.id, Maps(opened[-1], "drawn")

    yield make
    for each in opened:
        each.close()


def place(db: dbapi.Connection, run_id: int, places: dict[int, tuple[float, float]]) -> None:
    db.executemany(
        "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, ?)",
        [(run_id, i, x, y) for i, (x, y) in places.items()],
    )


def scattered(n: int, first: int = 1) -> dict[int, tuple[float, float]]:
    random = np.random.default_rng(n)
    return {first + i: (float(x), float(y)) for i, (x, y) in enumerate(random.normal(size=(n, 2)))}


# --- points -------------------------------------------------------------------------------------


def test_the_points_are_those_of_the_file(maps: Maps, gallery: Gallery) -> None:
    answer = maps.columns(gallery.projection)
    assert answer.header["n"] == answer.header["total"] == IMAGES
    db = connection.connect(gallery.path, read_only=True)
    rows = db.execute("select item_id, x, y from projection_points order by item_id").fetchall()
    db.close()
    assert answer.ids == [row[0] for row in rows]
    expected = np.array([row[1:] for row in rows], np.float32)
    assert np.array_equal(answer.places, expected)
    bounds = [answer.header["bounds"][axis] for axis in "xy"]
    assert bounds == np.stack([expected.min(axis=0), expected.max(axis=0)], axis=1).tolist()


def test_places_of_a_large_map_are_right_to_half_a_step(
    maps: Maps, gallery: Gallery, monkeypatch: pytest.MonkeyPatch
) -> None:
    exact = maps.columns(gallery.projection)
    monkeypatch.setattr(map_columns, "EXACT_POINTS", IMAGES - 1)
    coarse = maps.columns(gallery.projection)
    assert coarse.header["columns"]["x"]["type"] == "uint16"
    for axis in "xy":
        low, high = exact.header["bounds"][axis]
        away = np.abs(coarse.columns[axis] - exact.columns[axis].astype(float))
        assert 0 < away.max() <= (high - low) / 65535 / 2 * (1 + 1e-6)


def test_points_on_one_line_have_no_range(drawn: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(map_columns, "EXACT_POINTS", 0)
    _, run_id, maps = drawn({1: (2.5, 0.0), 2: (2.5, 1.0)})
    assert maps.columns(run_id).places.tolist() == [[2.5, 0.0], [2.5, 1.0]]


@pytest.mark.parametrize(
    ("ids", "kind"),
    [
        ([1, 2, 3], "uint8"),
        ([5, 260, 261], "uint8"),
        ([5, 261], "uint16"),
        ([1, 65_537, 65_538], "uint32"),
        ([2**40, 2**40 + 1], "uint8"),
        ([-3, 0, 4], "uint8"),
        ([1, 2**33], "float64"),
    ],
)
def test_ids_take_few_bytes_and_stay_exact(drawn: Any, ids: list[int], kind: str) -> None:
    _, run_id, maps = drawn({i: (float(n), 0.0) for n, i in enumerate(ids)})
    answer = maps.columns(run_id)
    assert answer.ids == ids
    assert answer.header["columns"]["ids"]["type"] == kind


def test_an_id_beyond_javascript_is_refused(drawn: Any) -> None:
    _, run_id, maps = drawn({2**53: (0.0, 0.0)})
    assert "beyond 2^53" in maps.problem(run_id)


def test_a_place_beyond_all_screens_is_refused(drawn: Any) -> None:
    _, run_id, maps = drawn({1: (0.0, 0.0), 2: (float("inf"), 0.0)})
    assert "not a number a screen can show" in maps.problem(run_id)


@pytest.mark.parametrize("clusters", [40, 300])
def test_a_point_of_a_million_takes_at_most_twelve_bytes(clusters: int) -> None:
    n = 1_000_000
    ids = np.arange(1, n + 1) * 7
    places = np.linspace(-1, 1, n, dtype=np.float32)
    points = Points(ids, places, places, ())
    everything = sample(points, None, n)
    codes = (ids % clusters).astype(np.int32)
    names = {code: f"cluster {code}" for code in range(clusters)}
    size = len(map_columns._points_answer(points, everything))
    size += len(map_columns._codes_answer({"n": n}, codes, everything, names))
    assert size <= 8 * n
    size = len(map_columns._points_answer(points, everything))
    size += len(map_columns._numbers_answer({"n": n}, codes / clusters, everything))
    assert size <= 12 * n


# --- samples and windows ------------------------------------------------------------------------


def test_a_sample_is_even_stable_and_nested(maps: Maps, gallery: Gallery) -> None:
    by = f"cluster:{gallery.clusters}:1"
    previous: set[int] = set()
    for limit in (9, 30, 45, 80, IMAGES):
        points = maps.columns(gallery.projection, limit=limit)
        assert points.header["n"] == len(points.ids) == limit
        assert points.header["total"] == IMAGES
        assert points.ids == maps.columns(gallery.projection, limit=limit).ids == sorted(points.ids)
        assert previous <= set(points.ids)
        previous = set(points.ids)
        kinds = np.bincount([(i - 1) // PER_COLOUR for i in points.ids], minlength=3)
        assert kinds.min() >= limit // 3 - 2
        colours = maps.colours(gallery.projection, by, limit=limit)
        assert colours.header["points"] == points.header["points"]
        assert colours.codes == [cluster_of(i) for i in points.ids]
        # The legend counts the whole map, whatever is shown of it.
        assert sum(entry["items"] for entry in colours.header["legend"]) == IMAGES - 9
        assert colours.header["noise"] == 9


def cluster_of(item: int) -> int:
    return NOISE if item % 10 == 0 else (item - 1) // PER_COLOUR


def test_a_window_holds_a_denser_sample_of_its_part(maps: Maps, gallery: Gallery) -> None:
    everything = maps.columns(gallery.projection)
    low, high = np.median(everything.columns["x"]), everything.columns["x"].max()
    window = {"x": f"{low},{high}", "y": "-100,100"}
    inside = [
        i for i, x in zip(everything.ids, everything.columns["x"], strict=True) if low <= x <= high
    ]
    assert maps.columns(gallery.projection, **window).ids == inside
    overview = set(maps.columns(gallery.projection, limit=20).ids)
    part = maps.columns(gallery.projection, limit=20, **window)
    assert len(part.ids) == 20
    assert overview & set(inside) < set(part.ids) < set(inside)
    assert part.header["bounds"] == everything.header["bounds"]
    colours = maps.colours(gallery.projection, "label:colour", limit=20, **window)
    names = {entry["code"]: entry["name"] for entry in colours.header["legend"]}
    assert [names[c] for c in colours.codes] == [COLOURS[(i - 1) // PER_COLOUR] for i in part.ids]


def test_a_window_without_points_is_empty(maps: Maps, gallery: Gallery) -> None:
    window = {"x": "1000,1001", "y": "0,1"}
    answer = maps.columns(gallery.projection, **window)
    assert answer.ids == []
    assert answer.header["total"] == IMAGES
    assert maps.colours(gallery.projection, "label:colour", **window).codes == []


def test_a_sample_of_many_points_is_nested_in_windows() -> None:
    random = np.random.default_rng(0)
    x, y = random.normal(size=(2, 50_000)).astype(np.float32)
    points = Points(np.sort(random.permutation(200_000)[:50_000]), x, y, ())
    overview = sample(points, None, 5000)
    for reach in (2.0, 1.0, 0.5, 0.1):
        window = Window((-reach, reach), (-reach, reach))
        inside = np.flatnonzero((abs(x) <= reach) & (abs(y) <= reach))
        chosen = sample(points, window, 5000)
        assert len(chosen) == min(5000, len(inside))
        assert np.isin(chosen, inside).all()
        assert np.isin(np.intersect1d(overview, inside), chosen).all()
    # Even: as many in each tenth of the plane, up to chance.
    tenths = np.bincount((np.argsort(np.argsort(x))[overview] * 10) // 50_000)
    assert tenths.min() > 400


@pytest.mark.parametrize(
    ("asked", "said"),
    [
        ({"limit": "0"}, "limit must be"),
        ({"limit": "-5"}, "limit must be"),
        ({"limit": "many"}, "limit must be"),
        ({"limit": "9" * 400}, "limit must be"),
        ({"limit": "0" * 12 + "9" * 20}, "limit must be"),
        ({"x": "1,2"}, "y is None"),
        ({"x": "2,1", "y": "0,1"}, "x is '2,1'"),
        ({"x": "nan,1", "y": "0,1"}, "x is 'nan,1'"),
        ({"x": "0,1", "y": "0,1,2"}, "y is '0,1,2'"),
        ({"x": "0,<b>", "y": "0,1"}, "x is '0,<b>'"),
    ],
)
def test_what_is_no_window_or_limit_is_400(
    maps: Maps, gallery: Gallery, asked: dict, said: str
) -> None:
    assert said in maps.problem(gallery.projection, **asked)
    assert "<b>" not in maps.get(gallery.projection, **asked).text


def test_a_run_without_a_map_is_404(maps: Maps, gallery: Gallery) -> None:
    for run_id in (gallery.clusters, 999, 2**63 - 1):
        assert f"Run {run_id} has no map" in maps.problem(run_id, status=404)
        assert "has no map" in maps.problem(run_id, "colours", status=404, by="plain")
    assert "There is no run" in maps.problem(2**63, status=404)


# --- colours ------------------------------------------------------------------------------------


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


# --- never stale --------------------------------------------------------------------------------


def test_who_has_an_answer_is_told_so(maps: Maps, gallery: Gallery) -> None:
    for path in ("columns", f"colours?by=cluster:{gallery.clusters}:1"):
        address = f"{maps.root}/{gallery.projection}/{path}"
        response = maps.site.get(address)
        tag = response.headers["etag"]
        assert "no-cache" in response.headers["cache-control"]
        for known in (tag, f'"other", {tag}', f"W/{tag}"):
            again = maps.site.get(address, headers={"if-none-match": known})
            assert again.status_code == 304
            assert again.content == b""
            assert again.headers["etag"] == tag
        assert maps.site.get(address, headers={"if-none-match": '"other"'}).status_code == 200


def test_points_are_read_once_while_nothing_changes(
    drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run_id, maps = drawn(scattered(20))
    read = map_points._read
    reads = []
    monkeypatch.setattr(map_points, "_read", lambda *a: reads.append(a[1]) or read(*a))
    for _ in range(8):
        maps.columns(run_id)
        maps.colours(run_id, "plain", limit=5)
    assert reads == [run_id]


def test_a_change_of_the_file_changes_the_answer(drawn: Any) -> None:
    db, run_id, maps = drawn(scattered(20))
    before = maps.columns(run_id)
    colours = maps.colours(run_id, "label:kind")
    with immediate(db):
        db.execute("insert into item_labels values (3, 'kind', 'odd', 'tests')")
    assert maps.columns(run_id).etag == before.etag
    labelled = maps.colours(run_id, "label:kind")
    assert labelled.etag != colours.etag
    assert labelled.codes[2] == 0
    with immediate(db):
        db.execute("delete from projection_points where item_id = 7")
    after = maps.columns(run_id)
    assert after.ids == [i for i in before.ids if i != 7]
    assert after.etag != before.etag
    assert maps.colours(run_id, "plain").header["points"] == after.header["points"]


def test_another_map_under_the_same_number_is_another_map(drawn: Any) -> None:
    db, run_id, maps = drawn(scattered(20))
    before = maps.columns(run_id)
    with immediate(db):
        db.execute("delete from runs where id = ?", (run_id,))
    maps.problem(run_id, status=404)
    with run(db, "project", parameters={}) as current, immediate(db):
        place(db, current.id, {i: (y, x) for i, (x, y) in scattered(20).items()})
    assert current.id == run_id
    after = maps.columns(run_id)
    assert after.ids == before.ids
    assert np.array_equal(after.places, before.places[:, ::-1])


def test_there_is_room_for_the_maps_asked_for_last(
    drawn: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    db, first, maps = drawn(scattered(20))
    runs = [first]
    for _ in range(2):
        with run(db, "project", parameters={}) as current, immediate(db):
            place(db, current.id, scattered(20))
        runs.append(current.id)
    monkeypatch.setattr(map_points, "KEPT_BYTES", 2 * 20 * 16)
    for run_id in runs:
        assert maps.columns(run_id).header["n"] == 20
    kept = map_points.kept(maps.site.datasette.get_database("drawn"))
    assert list(kept.maps) == runs[1:]
    assert maps.columns(first).header["n"] == 20
    assert list(kept.maps) == [runs[2], first]


def test_an_immutable_file_has_columns(gallery: Gallery) -> None:
    with site(immutables=[str(gallery.path)]) as opened:
        maps = Maps(opened, "gallery")
        assert maps.columns(gallery.projection).header["n"] == IMAGES
        assert maps.colours(gallery.projection, "label:colour").header["n"] == IMAGES
