"""The map in a real browser: it draws, answers the pointer and the keyboard, and asks nobody else."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from chromium import Watched, chromium
from gallery import COLOURS, IMAGES, PER_COLOUR, Gallery, build
from served import free_port, server

pytestmark = pytest.mark.browser

# Where point n of the first trace lies in the window, and how it is coloured on the screen.
PLACE = """n => {
    const canvas = document.getElementById("canvas");
    const {xaxis, yaxis} = canvas._fullLayout, trace = canvas.data[0];
    const frame = canvas.getBoundingClientRect();
    return [
        frame.left + frame.width * (trace.x[n] - xaxis.range[0]) / (xaxis.range[1] - xaxis.range[0]),
        frame.top + frame.height * (yaxis.range[1] - trace.y[n]) / (yaxis.range[1] - yaxis.range[0]),
    ];
}"""


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return build(tmp_path_factory.mktemp("gallery") / "gallery.db")


@pytest.fixture(scope="module")
def address(gallery: Gallery) -> Iterator[str]:
    port = free_port()
    arguments = ("-m", "datasette", "serve", str(gallery.path), "--port", str(port))
    with server(*arguments, port=port) as served:
        yield f"{served}/-/nearsql/gallery"


class WatchedMap(Watched):
    """A browser page with a map."""

    def open(self, url: str) -> None:
        self.page.goto(url)
        self.page.wait_for_function(
            "document.getElementById('nearsql-map').dataset.drawn", timeout=60_000
        )

    def move_to(self, point: int) -> None:
        x, y = self.page.evaluate(PLACE, point)
        self.page.mouse.move(x - 1, y - 1)
        self.page.mouse.move(x, y)

    def hover(self, point: int) -> str:
        """Moves to the point; gives the item of the card, once it no longer changes."""
        self.move_to(point)
        card = self.page.locator("#card")
        card.wait_for(state="visible")
        before, item = None, card.get_attribute("data-item")
        while item != before:  # on its way the mouse may have touched other points
            self.page.wait_for_timeout(500)
            before, item = item, card.get_attribute("data-item")
        return str(item)

    def colours(self) -> set[tuple[int, int, int]]:
        """The distinct strong colours in the middles of all points, as the screen shows them."""
        from io import BytesIO

        from PIL import Image

        box = self.page.locator("#canvas").bounding_box()
        shot = Image.open(BytesIO(self.page.locator("#canvas").screenshot())).convert("RGB")
        found = set()
        for point in range(
            self.page.evaluate("document.getElementById('canvas').data[0].x.length")
        ):
            x, y = self.page.evaluate(PLACE, point)
            found.add(shot.getpixel((int(x - box["x"]), int(y - box["y"]))))
        return found


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    # One for all tests, so that plotly is fetched and compiled once.
    with chromium() as browser:
        opened = browser.new_context(viewport={"width": 1100, "height": 750}, color_scheme="light")
        opened.set_default_timeout(30_000)
        yield opened
        opened.close()


@pytest.fixture
def watched(context: Any) -> Iterator[WatchedMap]:
    page = WatchedMap(context.new_page())
    yield page
    page.close()


def test_the_map_draws_every_colour(watched: WatchedMap, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    by_cluster = watched.colours()
    for hue in ((0, 114, 178), (230, 159, 0), (0, 158, 115)):  # the first three of the palette
        assert any(
            sum(abs(a - b) for a, b in zip(hue, seen, strict=True)) < 100 for seen in by_cluster
        )
    names = watched.page.locator("#legend .name").all_inner_texts()
    assert len(names) == len(COLOURS) + 1
    assert names[-1] == "noise"
    counts = watched.page.locator("#legend .count").all_inner_texts()
    assert [int(c) for c in counts] == [27, 27, 27, 9]


def test_hovering_shows_a_card(watched: WatchedMap, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    watched.move_to(IMAGES // 2)
    card = watched.page.locator("#card")
    card.wait_for(state="visible")
    assert "Item" in card.inner_text()
    assert "colour" in card.inner_text()
    image = card.locator("img")
    image.wait_for()
    watched.page.wait_for_function("document.querySelector('#card img').naturalWidth === 24")
    watched.page.mouse.move(5, 5)
    card.wait_for(state="hidden")


def test_a_click_opens_the_item_and_its_neighbours(
    watched: WatchedMap, address: str, gallery: Gallery
) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    item = watched.hover(IMAGES // 2)
    watched.page.mouse.down()
    watched.page.mouse.up()
    panel = watched.page.locator("#panel")
    panel.wait_for(state="visible")
    assert panel.locator("h2").inner_text() == f"Item {item}"
    neighbours = panel.locator(".neighbours li")
    assert neighbours.count() == 12
    assert f"item={item}" in watched.page.url
    rings = "document.getElementById('canvas').data[1].x.length"
    watched.page.wait_for_function(f"{rings} === 13")
    other = neighbours.first.get_attribute("data-item")
    neighbours.first.locator("a").click()
    watched.page.wait_for_function(f"document.getElementById('panel').dataset.item === '{other}'")
    assert panel.locator("h2").inner_text() == f"Item {other}"
    watched.page.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    watched.page.wait_for_function(f"{rings} === 0")


def test_colour_by_changes_the_colours(watched: WatchedMap, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    seen = [watched.colours()]
    for colour in ("label:colour", f"outlier:{gallery.clusters}:1", "plain"):
        watched.page.select_option("#colour", colour)
        watched.page.wait_for_function(
            f"document.getElementById('nearsql-map').dataset.drawn === '{colour}'"
        )
        watched.page.wait_for_timeout(300)  # WebGL draws at the next frame
        seen.append(watched.colours())
    for before, after in pairwise(seen):
        assert before != after
    assert watched.page.locator("#legend-section").is_hidden()


def test_the_legend_hides_and_shows(watched: WatchedMap, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    drawn = "document.getElementById('canvas').data[0].x.length"
    first = watched.page.locator("#legend button").first
    first.click()
    watched.page.wait_for_function(f"{drawn} === {IMAGES} - 27")
    assert first.get_attribute("aria-pressed") == "false"
    first.click(modifiers=["Shift"])
    watched.page.wait_for_function(f"{drawn} === 27")
    first.click(modifiers=["Shift"])
    watched.page.wait_for_function(f"{drawn} === {IMAGES}")


def test_the_keyboard_goes_from_point_to_point(
    watched: WatchedMap, address: str, gallery: Gallery
) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    watched.page.focus("#canvas")
    card = watched.page.locator("#card")
    seen = set()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        watched.page.keyboard.press(key)
        card.wait_for(state="visible")
        watched.page.wait_for_timeout(150)
        seen.add(card.get_attribute("data-item"))
    assert len(seen) > 1
    item = card.get_attribute("data-item")
    watched.page.keyboard.press("Enter")
    watched.page.locator("#panel").wait_for(state="visible")
    assert watched.page.locator("#panel h2").inner_text() == f"Item {item}"
    span = "(r => r[1] - r[0])(document.getElementById('canvas')._fullLayout.xaxis.range)"
    wide = watched.page.evaluate(span)
    watched.page.focus("#canvas")
    watched.page.keyboard.press("+")
    watched.page.wait_for_function(f"{span} < {wide}")
    watched.page.keyboard.press("0")
    watched.page.wait_for_function(f"Math.abs({span} - {wide}) < 0.01 * {wide}")


def test_an_address_opens_what_it_names(
    watched: WatchedMap, address: str, gallery: Gallery
) -> None:
    watched.open(f"{address}/map/{gallery.projection}#colour=label%3Acolour&item={PER_COLOUR}")
    watched.page.locator("#panel").wait_for(state="visible")
    assert watched.page.locator("#panel h2").inner_text() == f"Item {PER_COLOUR}"
    assert watched.page.locator("#colour").input_value() == "label:colour"
    assert watched.page.locator("#legend .name").all_inner_texts() == sorted(COLOURS)


def test_names_and_texts_never_run(watched: WatchedMap, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}#item=71")
    watched.page.locator("#panel").wait_for(state="visible")
    assert "<script>" in watched.page.locator("#legend").inner_text()
    for path in ("", f"/clusters/{gallery.clusters}", f"/items/{IMAGES + 1}"):
        watched.page.goto(address + path)
        assert watched.page.evaluate("window.hacked") is None


def test_it_follows_the_dark(watched: WatchedMap, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert watched.page.evaluate(paper) == "rgb(255, 255, 255)"
    before = watched.colours()
    watched.page.emulate_media(color_scheme="dark")
    watched.page.wait_for_timeout(500)
    assert sum(int(v) for v in watched.page.evaluate(paper)[4:-1].split(",")) < 100
    assert watched.colours() != before
