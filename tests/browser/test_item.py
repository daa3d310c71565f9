"""The page of an item in a real browser: turned by keys, its lines of neighbours compared, light, dark and on a phone."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Watched, chromium, window
from judged_images import add_images, add_space
from served import free_port, server

from nearsql.pipeline.runs import immediate
from nearsql.udfs import connection

pytestmark = pytest.mark.browser

ITEMS = 14
SCRIPT = "<script>window.hacked = true</script>"
SIZES = {"desk": {"width": 1280, "height": 800}, "phone": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of some images and one text, in two spaces that see them in opposite ways."""
    path: Path = tmp_path_factory.mktemp("items") / "photos.db"
    db = connection.create(path)
    add_images(db, ITEMS)
    line = np.arange(ITEMS, dtype="f4")[:, None] ** 1.5
    add_space(db, "forward", line)
    add_space(db, "a-name-that-is-so-long-that-it-has-to-be-broken/somewhere", -line[::-1].copy())
    with immediate(db):
        db.execute("insert into item_labels values (1, ?, ?, 'tests')", (SCRIPT, SCRIPT * 20))
        db.execute(
            "insert into items (id, kind, collection, sha256, content, uri, sequence_number)"
            " values (99, 'text', 'words', printf('%064d', 1), ?, ?, 0)",
            (SCRIPT + "word" * 5000, "/a/very/long/path" * 20),
        )
    db.close()
    port = free_port()
    with server("-m", "datasette", "serve", str(path), "--port", str(port), port=port) as served:
        yield f"{served}/-/nearsql/photos/items"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def watched(browser: Any, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """A light window on a desk, or as the test's parameter says."""
    scheme, size = getattr(request, "param", "light-desk").split("-")
    context = window(browser, viewport=SIZES[size], color_scheme=scheme)
    page = Watched(context.new_page())
    yield page
    page.close()
    context.close()


both = pytest.mark.parametrize("watched", ["light-desk", "dark-phone"], indirect=True)


def test_arrows_turn_the_pages(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/2")
    for key, item in (("ArrowRight", 3), ("ArrowLeft", 2), ("ArrowLeft", 1)):
        page.keyboard.press(key)
        page.wait_for_url(f"{address}/{item}")
        page.wait_for_load_state()
    page.keyboard.press("ArrowLeft")  # before the first there is none
    page.keyboard.press("Control+ArrowRight")
    assert page.url == f"{address}/1"


def test_neighbours_are_small_pictures_that_load_when_they_come_into_view(
    watched: Watched, address: str
) -> None:
    page = watched.page
    page.goto(f"{address}/5")
    page.locator(".near").last.scroll_into_view_if_needed()
    image = ".near:last-of-type li:first-child img"
    page.wait_for_function(f"document.querySelector('{image}').naturalWidth === 192")
    whole = [url for url in watched.asked if url.endswith("/image")]
    assert whole == [f"{address}/5/image"]
    small = [url for url in watched.asked if "/thumbnail?" in url]
    assert small
    assert all("size=192&v=" in url for url in small)


def test_a_neighbour_shows_where_else_it_is_near(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/5")
    first = page.locator(".near li[data-item]").first
    item = first.get_attribute("data-item")
    first.hover()
    lit = page.locator(".near li.lit")
    assert lit.count() == 2
    assert {each.get_attribute("data-item") for each in lit.all()} == {item}
    page.mouse.move(1, 1)
    assert lit.count() == 0


def test_keys_walk_along_and_between_the_lines(watched: Watched, address: str) -> None:
    page = watched.page
    page.goto(f"{address}/5")
    lines = [line.locator("li[data-item]").all() for line in page.locator(".near").all()]
    items = [[each.get_attribute("data-item") for each in line] for line in lines]
    focused = "document.activeElement.closest('li').dataset.item"
    lines[0][0].locator("a").focus()
    page.keyboard.press("ArrowRight")
    assert page.evaluate(focused) == items[0][1]
    page.keyboard.press("ArrowDown")
    assert page.evaluate(focused) == items[1][1]
    assert page.locator(".near li.lit").count() == 2
    page.keyboard.press("ArrowUp")
    page.keyboard.press("ArrowLeft")
    page.keyboard.press("ArrowLeft")  # at the end of a line it stays, and turns no page
    assert page.evaluate(focused) == items[0][0]
    assert page.url == f"{address}/5"
    page.keyboard.press("Enter")
    page.wait_for_url(f"{address}/{items[0][0]}")


@both
def test_nothing_is_wider_than_the_window_and_nothing_runs(watched: Watched, address: str) -> None:
    page = watched.page
    for item in (1, 5, 99):
        page.goto(f"{address}/{item}")
        assert page.evaluate("document.documentElement.scrollWidth <= innerWidth"), item
        assert page.evaluate("window.hacked") is None
    colours = (
        "(e => [getComputedStyle(e).color, getComputedStyle(e).backgroundColor])(document.body)"
    )
    ink, paper = page.evaluate(colours)
    is_dark = page.evaluate("matchMedia('(prefers-color-scheme: dark)').matches")
    assert (brightness(ink) > brightness(paper)) == is_dark


def brightness(colour: str) -> int:
    return sum(int(part) for part in colour.removeprefix("rgb(").removesuffix(")").split(","))


@both
def test_the_page_does_not_jump_when_its_image_comes(watched: Watched, address: str) -> None:
    page = watched.page
    page.route("**/image", lambda route: route.abort())
    page.goto(f"{address}/5")
    before = page.locator("#near").bounding_box()["y"]
    page.unroute("**/image")
    page.evaluate("document.querySelector('.thing img').src += '?again'")
    page.wait_for_function("document.querySelector('.thing img').naturalWidth > 0")
    assert page.locator("#near").bounding_box()["y"] == pytest.approx(before, abs=1)
    # The browser says that the first one failed, as it should.
    watched.said.clear()
