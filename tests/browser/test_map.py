"""The map in a real browser: it draws, answers the pointer and the keyboard, and asks nobody else."""

from collections.abc import Iterator
from itertools import pairwise
from typing import Any

import pytest
from chromium import chromium, window
from gallery import COLOURS, IMAGES, PER_COLOUR, Gallery, build
from mapped import MapPage
from served import free_port, server

pytestmark = pytest.mark.browser

RINGS = "view.scatter.rings.length"
SPAN = "view.scatter.view().x[1] - view.scatter.view().x[0]"


@pytest.fixture(scope="module")
def gallery(tmp_path_factory: pytest.TempPathFactory) -> Gallery:
    return build(tmp_path_factory.mktemp("gallery") / "gallery.db")


@pytest.fixture(scope="module")
def address(gallery: Gallery) -> Iterator[str]:
    port = free_port()
    arguments = ("-m", "datasette", "serve", str(gallery.path), "--port", str(port))
    with server(*arguments, port=port) as served:
        yield f"{served}/-/nearsql/gallery"


@pytest.fixture(scope="module")
def context() -> Iterator[Any]:
    with chromium() as browser:
        opened = window(browser, viewport={"width": 1100, "height": 750}, color_scheme="light")
        yield opened
        opened.close()


@pytest.fixture
def watched(context: Any) -> Iterator[MapPage]:
    page = MapPage(context.new_page())
    yield page
    page.close()


def test_the_map_draws_every_colour(watched: MapPage, address: str, gallery: Gallery) -> None:
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


def test_the_points_and_every_script_are_asked_for_at_once_and_once(
    watched: MapPage, address: str, gallery: Gallery
) -> None:
    """Not one after the other, as each script is read and names the next."""
    watched.open(f"{address}/map/{gallery.projection}")
    announced = watched.page.eval_on_selector_all(
        "link[rel=modulepreload], link[rel=preload], script[type=module]",
        "found => found.map((one) => one.href ?? one.src)",
    )
    fetched = watched.page.evaluate(
        "performance.getEntriesByType('resource').map((one) => one.name)"
    )
    at_once = [url for url in fetched if url.endswith((".js", "/columns")) or "/colours?" in url]
    assert sorted(at_once) == sorted(set(announced))


def test_names_stand_on_their_clusters(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}", names=True)
    names = watched.page.locator("#canvas + .names span:visible")
    assert names.count() == len(COLOURS)
    green = names.filter(has_text="green").bounding_box()
    middle = (green["x"] + green["width"] / 2, green["y"] + green["height"] / 2)
    places = [watched.place(point) for point in range(PER_COLOUR, 2 * PER_COLOUR)]
    assert min(x for x, _ in places) <= middle[0] <= max(x for x, _ in places)
    assert min(y for _, y in places) <= middle[1] <= max(y for _, y in places)
    watched.page.get_by_label("Names on the map").click()
    assert names.count() == 0
    watched.page.wait_for_url("**#*names=off")


def test_hovering_shows_a_card(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    watched.hover(IMAGES // 2)
    card = watched.page.locator("#card")
    assert "Item" in card.inner_text()
    assert "colour" in card.inner_text()
    watched.page.wait_for_function("document.querySelector('#card img').naturalWidth === 24")
    watched.page.mouse.move(5, 5)
    card.wait_for(state="hidden")


def test_a_click_opens_the_item_and_its_neighbours(
    watched: MapPage, address: str, gallery: Gallery
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
    watched.page.wait_for_url(f"**item={item}*")
    watched.page.mouse.move(5, 5)
    watched.until(f"{RINGS} === 13")
    other = neighbours.first.get_attribute("data-item")
    neighbours.first.locator("a").click()
    watched.page.wait_for_function(f"document.getElementById('panel').dataset.item === '{other}'")
    assert panel.locator("h2").inner_text() == f"Item {other}"
    watched.page.mouse.move(5, 5)
    watched.page.keyboard.press("Escape")
    panel.wait_for(state="hidden")
    watched.until(f"{RINGS} === 0")


def test_colour_by_changes_the_colours(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    seen = [watched.colours()]
    for colour in ("label:colour", f"outlier:{gallery.clusters}:1", "plain"):
        watched.page.select_option("#colour", colour)
        watched.drawn(colour)
        seen.append(watched.colours())
    for before, after in pairwise(seen):
        assert before != after
    assert watched.page.locator("#legend").is_hidden()
    watched.page.wait_for_url("**colour=plain*")


def test_sql_colours_the_points(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    watched.page.select_option("#colour", "sql")
    area = watched.page.locator("#colour-sql")
    area.fill("select id, id % 2 from items")
    area.press("Control+Enter")
    watched.drawn("sql:select id, id % 2 from items")
    # In two steps: playwright cannot look at all spans of Datasette 1.0's frame.
    ends = watched.page.locator("#legend .ends").locator("span").all_inner_texts()
    assert ends == ["0", "1"]
    area.fill("select id, iif(id % 2, 'odd', 'even') from items where id < 11")
    watched.page.get_by_role("button", name="Colour", exact=True).click()
    watched.page.locator("#legend .name", has_text="even").wait_for()
    names = watched.page.locator("#legend .name").all_inner_texts()
    assert names == ["even", "odd", "without a value"]
    area.fill("delete from items")
    watched.page.get_by_role("button", name="Colour", exact=True).click()
    said = watched.page.locator("#colouring .said")
    said.wait_for(state="visible")
    assert "must begin with SELECT" in said.inner_text()
    watched.said.clear()  # the browser has told of the refusal, status 400


def test_the_legend_hides_and_shows(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    shown = "(view.scatter.mask ?? Array(90).fill(1)).filter((m) => m === 1).length"
    first = watched.page.locator("#legend button").first
    first.click()
    watched.until(f"{shown} === {IMAGES} - 27")
    assert first.get_attribute("aria-pressed") == "false"
    watched.page.wait_for_url("**hidden=0*")
    first.click(modifiers=["Shift"])
    watched.page.mouse.move(5, 5)
    watched.until(f"{shown} === 27")
    watched.page.wait_for_url("**hidden=1*")
    watched.open(watched.page.url)
    assert watched.value(shown) == 27
    watched.page.locator("#legend button").first.click(modifiers=["Shift"])
    watched.page.mouse.move(5, 5)
    watched.until(f"{shown} === {IMAGES}")


def test_the_keyboard_goes_from_point_to_point(
    watched: MapPage, address: str, gallery: Gallery
) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    watched.page.focus("#canvas")
    card = watched.page.locator("#card")
    seen = set()
    for key in ("ArrowRight", "ArrowRight", "ArrowDown", "ArrowLeft"):
        watched.page.keyboard.press(key)
        item = watched.value("view.points.ids[view.cursor]")
        watched.page.locator(f"#card[data-item='{item}']").wait_for(state="visible")
        seen.add(item)
    assert len(seen) > 1
    item = card.get_attribute("data-item")
    watched.page.keyboard.press("Enter")
    watched.page.locator("#panel").wait_for(state="visible")
    assert watched.page.locator("#panel h2").inner_text() == f"Item {item}"
    wide = watched.value(SPAN)
    watched.page.keyboard.press("+")
    watched.until(f"{SPAN} < {wide}")
    watched.page.wait_for_url("**view=*")
    watched.page.keyboard.press("0")
    watched.until(f"Math.abs({SPAN} - {wide}) < 0.01 * {wide}")
    watched.page.keyboard.press("/")
    assert watched.page.evaluate("document.activeElement.id") == "within"


def test_an_address_opens_what_it_names(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(
        f"{address}/map/{gallery.projection}#colour=label%3Acolour&item={PER_COLOUR}&view=0,4,0,3"
    )
    watched.page.locator("#panel h2").wait_for()
    assert watched.page.locator("#panel h2").inner_text() == f"Item {PER_COLOUR}"
    assert watched.page.locator("#colour").input_value() == "label:colour"
    assert watched.page.locator("#legend .name").all_inner_texts() == sorted(COLOURS)
    seen = watched.value("view.scatter.view()")
    assert (seen["x"][0] + seen["x"][1]) / 2 == pytest.approx(2)
    assert seen["y"][1] - seen["y"][0] >= 3


def test_names_and_texts_never_run(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}#item=71", names=True)
    watched.page.locator("#panel h2").wait_for()
    assert "<script>" in watched.page.locator("#legend").inner_text()
    assert "<script>" in watched.page.locator("#canvas + .names").inner_text()
    for path in ("", f"/clusters/{gallery.clusters}", f"/items/{IMAGES + 1}"):
        watched.page.goto(address + path)
        assert watched.page.evaluate("window.hacked") is None


def test_it_follows_the_dark(watched: MapPage, address: str, gallery: Gallery) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    paper = "getComputedStyle(document.body).backgroundColor"
    assert watched.page.evaluate(paper) == "rgb(255, 255, 255)"
    before = watched.colours()
    watched.page.emulate_media(color_scheme="dark")
    watched.drawn()
    assert sum(int(v) for v in watched.page.evaluate(paper)[4:-1].split(",")) < 100
    assert watched.colours() != before


def of_script(watched: MapPage, name: str, expression: str) -> Any:
    """The value of an expression of what a script of the page exports, `of`."""
    return watched.page.evaluate(
        f"""async (name) => {{
            const page = document.querySelector('script[src$="/map.js"]').src;
            const of = await import(new URL(name, page));
            return {expression};
        }}""",
        name,
    )


def test_names_never_overlap_and_are_more_when_closer(
    watched: MapPage, address: str, gallery: Gallery
) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    shown = of_script(
        watched,
        "./map-names.js",
        """(() => {
            const layer = document.createElement("div");
            layer.className = "names";
            document.querySelector(".canvas-frame").append(layer);
            const names = new of.Names(layer);
            names.set(Array.from({length: 400}, (_, k) =>
                ({name: `group number ${k}`, x: k % 20, y: Math.floor(k / 20), n: 400 - k})));
            const seen = (view) => {
                names.place(view);
                return [...layer.querySelectorAll("span:not([hidden])")].map((span) => {
                    const {left, right, top, bottom} = span.getBoundingClientRect();
                    return {text: span.textContent, left, right, top, bottom};
                });
            };
            const views = [seen({x: [-1, 21], y: [-1, 21]}), seen({x: [-1, 6], y: [-1, 6]})];
            layer.remove();
            return views;
        })()""",
    )
    for view in shown:
        for n, a in enumerate(view):
            for b in view[:n]:
                beside = a["left"] >= b["right"] or b["left"] >= a["right"]
                assert beside or a["top"] >= b["bottom"] or b["top"] >= a["bottom"], (a, b)
    far, near = ({entry["text"] for entry in view} for view in shown)
    assert "group number 0" in far
    within = {f"group number {20 * y + x}" for x in range(7) for y in range(7)}
    assert len(far & within) < len(near) <= len(within)


def test_groups_beyond_the_palette_differ_from_those_beside_them(
    watched: MapPage, address: str, gallery: Gallery
) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    grid = "Array.from({length: 100}, (_, k) => ({code: k, x: k % 10, y: Math.floor(k / 10)}))"
    places = of_script(watched, "./map-colours.js", f"[...of.spreadColours({grid}, 20)]")
    colour = dict(places)
    assert set(colour.values()) == set(range(20))
    beside = [(k, k + step) for k in range(100) for step in (1, 10) if k % 10 + step % 10 < 10]
    assert all(colour[a] != colour[b] for a, b in beside if b < 100)
    few = of_script(watched, "./map-colours.js", f"[...of.spreadColours({grid}.slice(0, 5), 20)]")
    assert few == [[code, code] for code in range(5)]


def test_a_scale_ends_where_far_values_begin(
    watched: MapPage, address: str, gallery: Gallery
) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    values = "Float32Array.from([...Array(1000).keys(), 1e6, NaN])"
    found = of_script(watched, "./map-colours.js", f"of.rangeOf({values})")
    assert found == {"low": 10, "high": 990, "least": 0, "most": 1e6, "without": 1}
    found = of_script(watched, "./map-colours.js", "of.rangeOf(Float32Array.of(2, 1, 3))")
    assert found == {"low": 1, "high": 3, "least": 1, "most": 3, "without": 0}


def test_items_are_found_among_points_in_any_order(
    watched: MapPage, address: str, gallery: Gallery
) -> None:
    watched.open(f"{address}/map/{gallery.projection}")
    for ids in ([2, 5, 9, 2**40], [9, 2, 2**40, 5]):
        found = of_script(
            watched,
            "./map-ids.js",
            f"""(() => {{
                const places = new of.Places({ids});
                return [{ids}.map((id) => places.of(id)), places.of(3),
                        [...places.among([1, 5, 9])], [...of.shared([1, 5, 9], [5, 7, 9])]];
            }})()""",
        )
        assert found == [[0, 1, 2, 3], -1, [int(id_ in (5, 9)) for id_ in ids], [5, 9]]
