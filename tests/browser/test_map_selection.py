"""The map in a real browser, by who may write: what a lasso takes, and where it goes; two maps at once."""

import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from chromium import chromium, window
from datasette.app import Datasette
from gallery import IMAGES, PER_COLOUR, Gallery, build
from mapped import MapPage
from served import free_port, server

from nearsql.pipeline.runs import immediate, run, space_input
from nearsql.udfs import connection

pytestmark = pytest.mark.browser

SECRET = "of these tests"
# Around all green points of the first map, and no other.
AROUND_GREEN = [(5.5, 5.5), (14.5, 5.5), (14.5, 14.5), (5.5, 14.5)]
GREEN = list(range(PER_COLOUR + 1, 2 * PER_COLOUR + 1))
MASKED = "Array.from(view.points.ids).filter((_, i) => view.scatter.mask?.[i] === 1)"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    """The gallery with a second map of the images, run 4, and clusters of it at two levels, run 5."""
    built = build(tmp_path_factory.mktemp("gallery") / "gallery.db")
    db = connection.connect(built.path)
    inputs = [space_input(db, "paint/space")]
    with run(db, "project", parameters={"method": "pca"}, inputs=inputs) as current, immediate(db):
        db.executemany(
            "insert into projection_points (run_id, item_id, x, y) values (?, ?, ?, ?)",
            [(current.id, 1 + i, i % 10, i // 10) for i in range(IMAGES)],
        )
    with run(db, "cluster", parameters={}, inputs=inputs) as current, immediate(db):
        for level, n in ((1, 1), (2, 9)):
            for label in range(n):
                cluster = db.execute(
                    "insert into clusters (run_id, level, label, size) values (?, ?, ?, ?)",
                    (current.id, level, label, IMAGES // n),
                ).lastrowid
                db.executemany(
                    "insert into memberships (run_id, level, item_id, cluster_id)"
                    " values (?, ?, ?, ?)",
                    [(current.id, level, 1 + i, cluster) for i in range(IMAGES) if i % n == label],
                )
    db.close()
    return built


@pytest.fixture(scope="module")
def address(gallery: Gallery) -> Iterator[str]:
    port = free_port()
    arguments = ("-m", "datasette", "serve", str(gallery.path), "--port", str(port))
    with server(*arguments, "--root", "--secret", SECRET, port=port) as served:
        yield f"{served}/-/nearsql/gallery"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


def opened(
    browser: Any, address: str, *, is_root: bool = True, **options: Any
) -> Iterator[MapPage]:
    context = window(browser, **{"viewport": {"width": 1200, "height": 800}, **options})
    if is_root:
        value = Datasette([], secret=SECRET).sign({"a": {"id": "root"}}, "actor")
        context.add_cookies([{"name": "ds_actor", "value": value, "url": address}])
    page = MapPage(context.new_page())
    yield page
    page.close()
    context.close()


@pytest.fixture
def watched(browser: Any, address: str) -> Iterator[MapPage]:
    """A page of who may write."""
    yield from opened(browser, address)


@pytest.fixture
def reader(browser: Any, address: str) -> Iterator[MapPage]:
    """A page of who may only read, on a telephone."""
    yield from opened(
        browser,
        address,
        is_root=False,
        viewport={"width": 390, "height": 844},
        has_touch=True,
        is_mobile=True,
    )


def rows(path: Path, question: str) -> list[tuple]:
    db = sqlite3.connect(f"file:{path}?mode=ro", uri=True)
    try:
        return db.execute(question).fetchall()
    finally:
        db.close()


def count(watched: MapPage) -> str:
    watched.page.wait_for_function(
        "/selected/.test(document.querySelector('#chosen .count').textContent)"
    )
    return watched.page.locator("#chosen .count").inner_text()


def test_a_lasso_is_saved_tagged_and_downloaded(
    watched: MapPage, address: str, gallery: Gallery
) -> None:
    watched.open(f"{address}/map/{gallery.projection}#colour=label:colour")
    watched.lasso(AROUND_GREEN)
    assert count(watched) == "30 items selected"
    watched.until(f"{MASKED}.length === 30")
    chosen = watched.page.locator("#chosen")
    assert chosen.locator(".mix li").all_inner_texts() == ["green 30"]
    chosen.locator(".some [data-item]").first.wait_for()
    shown = [int(li.get_attribute("data-item")) for li in chosen.locator(".some li").all()]
    assert len(shown) == 24
    assert set(shown) <= set(GREEN)

    with watched.page.expect_download() as download:
        chosen.get_by_role("button", name="Download CSV").click()
    text = Path(download.value.path()).read_bytes().decode()
    assert text.split("\r\n") == ["item_id,colour", *[f"{item},green" for item in GREEN], ""]

    chosen.get_by_label("Save as").fill("all the greens")
    chosen.get_by_role("button", name="Save").click()
    saved = chosen.locator(".said a", has_text="all the greens")
    saved.wait_for()
    [(how, corners, run_id)] = rows(
        gallery.path, "select how, polygon_json, projection_run_id from selections"
    )
    assert (how, run_id) == ("polygon", gallery.projection)
    assert len(json.loads(corners)) >= 4
    stored = rows(gallery.path, "select item_id from selection_items order by 1")
    assert [item for (item,) in stored] == GREEN
    # The same name once more needs to be allowed.
    chosen.get_by_role("button", name="Save").click()
    chosen.locator(".said.problem", has_text="all the greens").wait_for()
    watched.said.clear()  # the browser has told of the refusal, status 409
    chosen.get_by_label("in the place of one with this name").check()
    chosen.get_by_role("button", name="Save").click()
    saved.wait_for()

    chosen.get_by_label("Label", exact=True).fill("mood")
    chosen.get_by_label("Value of the label").fill("calm")
    chosen.get_by_role("button", name="Tag").click()
    chosen.locator(".said", has_text="30 items have the label mood = calm").wait_for()
    tagged = rows(gallery.path, "select item_id from item_labels where name = 'mood' order by 1")
    assert [item for (item,) in tagged] == GREEN
    watched.page.select_option("#colour", "label:mood")
    watched.drawn("label:mood")
    assert watched.page.locator("#legend .name").all_inner_texts() == ["calm", "without a value"]

    # What was saved is a page with its CSV, and the way back to the map.
    watched.page.locator("#within").fill("all the greens")
    watched.page.keyboard.press("Enter")
    watched.page.locator("#filter .facts", has_text="30 shown").wait_for()
    watched.page.goto(f"{address}/selections")
    watched.page.get_by_role("link", name="all the greens").first.click()
    with watched.page.expect_download() as download:
        watched.page.get_by_role("link", name="Download CSV").click()
    lines = Path(download.value.path()).read_text().splitlines()
    assert len(lines) == 1 + len(GREEN)


def test_the_sql_behind_a_lasso_gives_its_items(
    watched: MapPage, address: str, gallery: Gallery
) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    watched.lasso(AROUND_GREEN)
    assert count(watched) == "30 items selected"
    watched.page.wait_for_url("**lasso=*")
    link = watched.page.locator("#chosen a.sql").get_attribute("href")
    # Sent to somebody, the address shows the same.
    watched.open(watched.page.url)
    assert count(watched) == "30 items selected"
    watched.page.keyboard.press("Escape")
    watched.page.locator("#chosen").wait_for(state="hidden")
    watched.until("view.scatter.mask === null")
    watched.page.goto(address.split("/-/")[0] + link)
    shown = watched.page.locator("table.rows-and-columns tbody tr")
    assert shown.count() == len(GREEN)


def test_what_is_not_shown_is_not_taken(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    watched.page.locator("#within").fill("select id from items where id % 2")
    watched.page.keyboard.press("Enter")
    watched.page.locator("#filter .facts", has_text="45 shown").wait_for()
    watched.page.locator("#legend button", has_text="noise").click()
    watched.page.mouse.move(2, 2)
    watched.lasso(AROUND_GREEN)
    odd = [item for item in GREEN if item % 2]  # every tenth is noise, and even
    assert count(watched) == f"{len(odd)} items selected"
    assert sorted(watched.value(MASKED)) == odd
    asked = watched.page.locator("#chosen a.sql").get_attribute("href")
    watched.page.goto(address.split("/-/")[0] + asked)
    assert watched.page.locator("table.rows-and-columns tbody tr").count() == len(odd)


def test_a_filter_that_cannot_be_says_why(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}#filter=[1,2,3]")
    watched.page.locator("#filter .facts", has_text="3 shown").wait_for()
    watched.page.locator("#within").fill("select nothing_at_all")
    watched.page.keyboard.press("Enter")
    watched.page.locator("#filter .facts.error", has_text="no such column").wait_for()
    watched.said.clear()  # the browser has told of the refusal, status 400
    assert watched.value(f"{MASKED}.length") == 3  # what was shown, still is
    watched.page.locator("#within").fill("")
    watched.until("view.scatter.mask === null")


def test_two_maps_show_the_same_items(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}?beside=4")
    rings = "view.scatter.rings.map((ring) => view.points.ids[ring.index])"
    item = int(watched.hover(40))
    watched.until(f"{rings}.includes({item})", "canvas-2")
    watched.lasso([(-0.2, -0.2), (9.2, -0.2), (9.2, 1.5), (-0.2, 1.5)], "canvas-2")  # 1 to 20
    assert count(watched) == "20 items selected"
    for canvas in ("canvas", "canvas-2"):
        assert sorted(watched.value(MASKED, canvas)) == list(range(1, 21))
    watched.page.locator("#chosen .close").click()
    watched.page.locator("select.to-map").nth(1).select_option("nothing")
    watched.page.wait_for_function("document.querySelectorAll('.canvas').length === 1")
    watched.drawn()


def test_a_slider_goes_through_the_levels(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/4#colour=cluster:5:1")
    assert watched.page.locator("#legend button").count() == 2  # with the noise
    slider = watched.page.locator("#level")
    slider.focus()
    slider.press("ArrowRight")
    watched.drawn("cluster:5:2")
    assert watched.page.locator("output[for=level]").inner_text() == "2 of 2"
    assert watched.page.locator("#legend button").count() == 10
    watched.page.wait_for_url("**colour=cluster*5*2*")
    # The search of the legend finds a name, hides the others, and goes there.
    watched.page.focus("#canvas")
    watched.page.keyboard.press("/")
    watched.page.keyboard.type("cluster 7")
    assert watched.page.locator("#legend button:visible").count() == 1
    wide = watched.value("view.scatter.view().x[1] - view.scatter.view().x[0]")
    watched.page.keyboard.press("Enter")
    watched.until(f"view.scatter.view().x[1] - view.scatter.view().x[0] !== {wide}")


def test_a_finger_opens_and_draws(reader: MapPage, address: str, gallery: Gallery) -> None:
    reader.open(f"{address}/map/{gallery.projection}")
    reader.page.touchscreen.tap(*reader.place(45))
    reader.page.locator("#panel h2").wait_for()
    assert "nearsql serve FILE" in reader.page.locator("#chosen").text_content()
    assert reader.page.locator("#chosen form").count() == 0
    assert reader.page.evaluate("document.documentElement.scrollWidth") <= 390
    reader.page.get_by_label("Draw around items").tap()
    assert reader.value("view.scatter.mode") == "lasso"


def test_a_sample_says_so_and_shows_more_when_closer(
    watched: MapPage, address: str, gallery: Gallery
) -> None:
    # As if there were too many points: the page asks for at most 30 at a time.
    def fewer(route: Any) -> None:
        url = route.request.url
        route.continue_(url=url + ("&" if "?" in url else "?") + "limit=30")

    watched.page.route("**/columns*", fewer)
    watched.page.route("**/colours*", fewer)
    watched.open(f"{address}/map/{gallery.projection}")
    sampled = watched.page.locator(".sampled")
    assert sampled.inner_text() == "30 of 90 points shown, evenly; zoom in for more"
    few = watched.value("view.points.n")
    assert few == 30
    seen = watched.value("Array.from(view.points.ids)")
    green = [item for item in seen if item in GREEN]
    # A lasso takes all items, drawn or not.
    watched.lasso(AROUND_GREEN)
    assert count(watched) == "30 items selected"
    watched.page.keyboard.press("Escape")
    watched.page.evaluate(
        "document.getElementById('canvas').map.scatter.setView({x: [8, 12], y: [8, 12]})"
    )
    watched.until("view.isWindow")
    closer = watched.value("Array.from(view.points.ids)")
    assert set(green) <= set(closer)  # nested
    assert len([item for item in closer if item in GREEN]) > len(green)
    watched.drawn()
    watched.page.keyboard.press("0")
    watched.until("!view.isWindow")
    assert watched.value("Array.from(view.points.ids)") == seen
