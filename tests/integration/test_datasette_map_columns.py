"""The columns of a map: the right points, in few bytes, sampled evenly, never stale."""

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from gallery import COLOURS, IMAGES, PER_COLOUR, Gallery
from map_routes import Maps, cluster_of, place, scattered
from served import Site, site

from nearsql.datasette_plugins import map_columns, map_points
from nearsql.datasette_plugins.map_points import Points, Window, sample
from nearsql.pipeline.runs import immediate, run
from nearsql.udfs import connection, dbapi


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
