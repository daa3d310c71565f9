"""The boxes on an item's image in a real browser: on the right pixels, switched on and off, asking nobody else."""

import json
from collections.abc import Iterator
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import Watched, chromium, window
from judged_images import HEIGHT, WIDTH, add_detector, add_images, annotate, judge
from PIL import Image
from served import free_port, server

from nearsql.pipeline.runs import immediate
from nearsql.udfs import connection, rle

pytestmark = pytest.mark.browser

FOUND = (20.0, 10.0, 80.0, 60.0)
MISSED = (120.0, 30.0, 180.0, 90.0)


def ring(box: tuple[float, float, float, float]) -> str:
    """The mask of a box with a hole: its outer ten pixels."""
    bitmap = np.zeros((HEIGHT, WIDTH), bool)
    x_min, y_min, x_max, y_max = map(int, box)
    bitmap[y_min:y_max, x_min:x_max] = True
    bitmap[y_min + 10 : y_max - 10, x_min + 10 : x_max - 10] = False
    return json.dumps(rle.encode(bitmap))


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """A server of one judged image: a cat found, a dog missed, a false alarm and an unsure one."""
    path: Path = tmp_path_factory.mktemp("boxes") / "photos.db"
    db = connection.create(path)
    add_images(db, 2)
    annotate(db, 1, (1, "cat", FOUND), (2, "dog", MISSED))
    seen = [
        ("cat", FOUND, 0.9, 1),
        ("dog", (0.0, 70.0, 30.0, 100.0), 0.4, None),
        ("dog", MISSED, 0.1, None),
    ]
    judge(db, add_detector(db), {1: seen})
    with immediate(db):
        db.execute("update annotations set mask_json = ? where id = 1", (ring(FOUND),))
    db.close()
    port = free_port()
    with server("-m", "datasette", "serve", str(path), "--port", str(port), port=port) as served:
        yield f"{served}/-/nearsql/photos/items/1"


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    with chromium() as launched:
        yield launched


@pytest.fixture
def watched(browser: Any, address: str, request: pytest.FixtureRequest) -> Iterator[Watched]:
    """The page in a light window, or as the test's parameter says."""
    scheme = getattr(request, "param", "light")
    context = window(browser, viewport={"width": 1300, "height": 900}, color_scheme=scheme)
    page = Watched(context.new_page())
    page.page.goto(address)
    page.page.wait_for_function("document.querySelector('.thing img').naturalWidth > 0")
    yield page
    page.close()
    context.close()


def shown(watched: Watched) -> set[str]:
    """The names of the boxes that are drawn."""
    boxes = watched.page.locator("svg.boxes .box")
    return {
        box.get_attribute("data-box") for box in boxes.all() if box.locator(".line").is_visible()
    }


@pytest.mark.parametrize("watched", ["light", "dark"], indirect=True)
def test_boxes_lie_on_their_pixels(watched: Watched) -> None:
    image = watched.page.locator(".thing img").bounding_box()
    scale = image["width"] / WIDTH
    assert image["height"] / HEIGHT == pytest.approx(scale, rel=0.01)
    for name, box in (("o1", FOUND), ("o2", MISSED)):
        place = watched.page.evaluate(
            "name => { const r = document.querySelector(`[data-box=${name}] .line`)"
            ".getBoundingClientRect(); return [r.left, r.top, r.right, r.bottom]; }",
            name,
        )
        edges = (image["x"], image["y"], image["x"], image["y"])
        expected = [edge + scale * corner for edge, corner in zip(edges, box, strict=True)]
        assert place == pytest.approx(expected, abs=4)
    # On the screen, the left edge of what was missed is of its colour.
    shot = Image.open(BytesIO(watched.page.screenshot())).convert("RGB")
    x = image["x"] + scale * MISSED[0]
    column = {
        shot.getpixel((round(x) + dx, round(image["y"] + scale * y)))
        for dx in (-1, 0)
        for y in range(int(MISSED[1]) + 5, int(MISSED[3]) - 5)
    }
    assert any(max(abs(a - b) for a, b in zip(c, (245, 194, 17), strict=True)) < 40 for c in column)


def test_layers_and_confidence_choose_what_is_drawn(watched: Watched) -> None:
    assert shown(watched) == {"o1", "o2", "p1", "p2"}
    watched.page.get_by_label("unsure predictions").check()
    assert shown(watched) == {"o1", "o2", "p1", "p2", "p3"}
    watched.page.get_by_label("objects missed").uncheck()
    assert shown(watched) == {"o1", "p1", "p2", "p3"}
    watched.page.locator("#least").fill("0.5")
    assert watched.page.locator("output[for=least]").inner_text() == "0.50"
    assert shown(watched) == {"o1", "p1"}
    name = watched.page.locator("[data-box=p1] text").first
    assert name.is_visible()
    watched.page.get_by_label("names").uncheck()
    assert not name.is_visible()


def test_a_row_points_at_its_box(watched: Watched) -> None:
    watched.page.locator("tr[data-box=p3]").hover()
    assert "p3" in shown(watched)  # also one that is not drawn otherwise
    dim = "getComputedStyle(document.querySelector('g[data-box=p1]')).opacity"
    assert watched.page.evaluate(dim) == "0.25"
    watched.page.mouse.move(2, 2)
    assert watched.page.evaluate(dim) == "1"
    assert shown(watched) == {"o1", "o2", "p1", "p2"}


def pixel(watched: Watched, x: float, y: float) -> tuple[int, ...]:
    """The colour on the screen of a pixel of the image."""
    image = watched.page.locator(".thing img").bounding_box()
    scale = image["width"] / WIDTH
    shot = Image.open(BytesIO(watched.page.screenshot())).convert("RGB")
    colour: tuple[int, ...] = shot.getpixel(
        (int(image["x"] + scale * x), int(image["y"] + scale * y))
    )
    return colour


def test_a_mask_tints_its_pixels_and_not_its_hole(watched: Watched) -> None:
    watched.page.locator("[data-part=names]").uncheck()
    watched.page.mouse.move(2, 2)
    plain = pixel(watched, 150, 20)
    x, y = FOUND[0], (FOUND[1] + FOUND[3]) / 2
    tinted, hole = pixel(watched, x + 5, y), pixel(watched, (x + FOUND[2]) / 2, y)
    assert tinted[1] > plain[1] + 30  # towards the green of what was found
    assert hole == plain
    watched.page.locator("[data-part=masks]").uncheck()
    assert pixel(watched, x + 5, y) == plain


def test_keys_switch_what_is_drawn(watched: Watched) -> None:
    line = watched.page.locator("[data-box=p1] .line")
    mask = watched.page.locator("[data-box=o1] .mask")
    name = watched.page.locator("[data-box=p1] text")
    for key, part in (("b", line), ("m", mask), ("n", name)):
        assert part.is_visible()
        watched.page.keyboard.press(key)
        assert not part.is_visible()
        watched.page.keyboard.press(key)
        assert part.is_visible()


def test_an_address_may_mean_a_box(watched: Watched) -> None:
    lit = watched.page.locator("svg.boxes .box.lit")
    assert lit.count() == 0
    watched.page.evaluate("location.hash = 'p3'")
    watched.page.wait_for_function("document.querySelector('svg.boxes .box.lit') !== null")
    assert lit.get_attribute("data-box") == "p3"
    watched.page.evaluate("location.hash = 'another'")
    watched.page.wait_for_function("document.querySelector('svg.boxes .box.lit') === null")
